// What a visitor sees and does. Pictures, answers and corrections of the visit live here, in the browser; the
// kernel answers questions and remembers nothing. Whatever comes from a visitor or from the kernel becomes text
// nodes, never markup.

const PATIENCE_MS = 20_000; // for an answer
const PATIENCE_AFAR_MS = 45_000; // for an address: 10 s at most, and others may have to be read before
const PATIENCE_LOADING_MS = 180_000; // for the page's own scripts, before a question can be asked at all
const TOGETHER = 20; // pictures taken at once
const KEPT = 60; // pictures of this visit; the oldest go first
const LONGEST_NAME = 60; // characters of a name that a visitor gives
// What the server can decode as well as the browser; anything else is converted.
const PLAIN_TYPES = ["image/jpeg", "image/png", "image/webp", "image/gif", "image/bmp"];

/** Says to the visitor what is wrong and what to do; to load the page again is offered where it helps. */
class Problem extends Error {
  constructor(sentence, reload = false) {
    super(sentence);
    this.reload = reload;
  }
}

// ---------------------------------------------------------------- elements

/**
 * Makes an element: `make("p.soft", { id: "x", onclick: listener }, "text", child, …)`.
 *
 * Attributes may be left out. `true` sets one without a value, `false` and null set none; children that are null
 * or empty are passed over.
 */
function make(kind, ...rest) {
  const [tag, ...classes] = kind.split(".");
  const hasAttributes = rest[0] != null && Object.getPrototypeOf(rest[0]) === Object.prototype;
  const attributes = hasAttributes ? rest.shift() : {};
  const element = document.createElement(tag);
  element.classList.add(...classes);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value != null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...rest.flat().filter(Boolean));
  return element;
}

/** Replaces what is in an element; whoever had the keyboard's focus keeps it, and the place in a text. */
function fill(element, ...children) {
  const { id, selectionStart, selectionEnd } = document.activeElement ?? {};
  const focused = element.contains(document.activeElement) ? id : "";
  element.replaceChildren(...children.flat().filter(Boolean));
  const again = focused && document.getElementById(focused);
  again?.focus?.();
  if (again && selectionStart != null) again.setSelectionRange(selectionStart, selectionEnd);
}

function percent(probability) {
  if (probability >= 0.995) return "over 99%";
  if (probability < 0.005) return "under 1%";
  return `${Math.round(100 * probability)}%`;
}

const short = (words) => words.replace("over ", ">").replace("under ", "<");

// ---------------------------------------------------------------- pictures, before they travel

function openImage(url) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => (image.naturalWidth ? resolve(image) : reject(new Error("no size")));
    image.onerror = () => reject(new Error("not a picture"));
    image.src = url;
  });
}

/** Draws a picture upright, on white, at most so many pixels a side. */
async function shrink(file, width, height, about) {
  const scale = Math.min(1, about.side / Math.max(width, height));
  const resizeWidth = Math.max(1, Math.round(scale * width));
  const resizeHeight = Math.max(1, Math.round(scale * height));
  const size = { resizeWidth, resizeHeight, resizeQuality: "high" };
  const bitmap = await createImageBitmap(file, { imageOrientation: "from-image", ...size });
  const canvas = make("canvas", { width: resizeWidth, height: resizeHeight });
  const context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, resizeWidth, resizeHeight);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", about.quality));
  if (!blob) throw new Error("no picture came of it");
  return blob;
}

/**
 * Makes a file small enough to travel.
 *
 * What the browser cannot read goes as it is: the server says what is wrong with it, or can read it after all.
 *
 * @returns {Promise<{blob: Blob, isShown: boolean}>} What to send, and whether the browser can show it.
 */
async function prepared(file, about) {
  const url = URL.createObjectURL(file);
  try {
    // An image tells its size before it is decoded; a decoded bitmap may take gigabytes.
    const { naturalWidth: width, naturalHeight: height } = await openImage(url);
    if (width * height <= about.pixels) {
      const isSmall = Math.max(width, height) <= about.side && file.size <= about.keptBytes;
      if (isSmall && PLAIN_TYPES.includes(file.type)) return { blob: file, isShown: true };
      return { blob: await shrink(file, width, height, about), isShown: true };
    }
  } catch {
    // Not a picture to this browser.
  } finally {
    URL.revokeObjectURL(url);
  }
  if (file.size > about.sentBytes) {
    const [size, limit] = [file.size, about.sentBytes].map((bytes) => Math.round(bytes / 1e6));
    throw new Problem(
      "This browser cannot make a smaller picture of it, and as it is it is too large to send " +
        `(${size} MB, at most ${limit} MB). Save it as a JPEG of fewer pixels.`,
    );
  }
  return { blob: file, isShown: false };
}

// ---------------------------------------------------------------- questions to the kernel

/** Gives a function that asks and waits for the answer, and one that listens no more. */
function questions(model) {
  let last = 0;
  const waiting = new Map();
  const listen = (message, buffers) => {
    const question = waiting.get(message.id);
    if (!question) return;
    if (message.problem) question.refuse(new Problem(message.problem));
    else question.answer({ ...message, buffers });
  };

  function ask(content, ...buffers) {
    return new Promise((resolve, reject) => {
      const id = ++last;
      let timer;
      const wait = (patience, sentence) => {
        clearTimeout(timer);
        timer = setTimeout(() => settle(reject)(new Problem(sentence, true)), patience);
      };
      const settle = (how) => (what) => {
        clearTimeout(timer);
        waiting.delete(id);
        how(what);
      };
      waiting.set(id, { answer: settle(resolve), refuse: settle(reject) });
      wait(PATIENCE_LOADING_MS, "The page has not loaded to its end. The connection may be too slow, or lost.");
      const onSent = () => {
        const patience = content.ask === "fetch" ? PATIENCE_AFAR_MS : PATIENCE_MS;
        if (waiting.has(id)) wait(patience, "No answer has come. The connection to the server may be lost.");
      };
      try {
        model.send({ ...content, id }, undefined, buffers);
        // Before the widget is there, what is sent is kept: a slow network is no lost connection.
        if (model.whenSent) model.whenSent(onSent);
        else onSent();
      } catch {
        settle(reject)(new Problem("The connection to the server is lost.", true));
      }
    });
  }

  model.on("msg:custom", listen);
  return { ask, stop: () => model.off("msg:custom", listen) };
}

// ---------------------------------------------------------------- corrections as a table

/** Writes a field; what a spreadsheet would take for a formula gets an apostrophe before it. */
function field(value) {
  const text = String(value).replace(/\s+/g, " ");
  return `"${(/^ ?[=+\-@]/.test(text) ? `'${text}` : text).replaceAll('"', '""')}"`;
}

function correctionsTable(pictures, nameOf) {
  const rows = [["picture", "network", "answer", "probability", "right name"]];
  for (const picture of pictures.filter((one) => one.truth)) {
    for (const [key, { top }] of Object.entries(picture.answers)) {
      if (top) rows.push([picture.name, nameOf(key), top[0][0], top[0][1].toFixed(4), picture.truth]);
    }
  }
  return rows.map((row) => `${row.map(field).join(",")}\r\n`).join("");
}

function save(text, name) {
  const url = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

// ---------------------------------------------------------------- what answers look like

function inWords({ top, sure, problem }) {
  if (problem) return problem;
  const [name, probability] = top[0];
  return sure ? `${name}, ${percent(probability)}.` : `I am not sure. Perhaps ${name}, ${percent(probability)}.`;
}

function verdict({ top, sure, threshold }) {
  const [name, probability] = top[0];
  if (sure) return make("h2.name", { "data-testid": "prediction" }, name);
  const [share, needed] = [percent(probability), percent(threshold)];
  return make(
    "div.verdict",
    { "data-testid": "prediction" },
    make("h2.name", "I am not sure"),
    make("p", "Perhaps ", make("b", name), `, but ${share} is less than the ${needed} from which I would say so.`),
  );
}

function bars({ top }) {
  const rows = top.map(([name, probability]) => {
    const bar = make("i", { "aria-hidden": "true" });
    bar.style.setProperty("--share", probability);
    return make("li", make("span.who", name), " ", bar, make("span.share", short(percent(probability))));
  });
  return make("ol.bars", { "data-testid": "probabilities", "aria-label": "The most probable characters" }, rows);
}

/** The shape of an answer that is not there. */
function placeholder(kind, picture, name, hint) {
  const ghost = make("div.ghost", { "aria-hidden": "true" }, make("i"), make("i"), make("i"));
  return make(
    `div.card.${kind}`,
    picture,
    make("div.words", make("p.name", name), hint && make("p.soft", hint), ghost),
  );
}

function emptyAnswer() {
  const picture = make("div.picture", { "aria-hidden": "true" }, "?");
  return placeholder("empty", picture, "Nobody yet", "Here you will see the name, and how sure the network is of it.");
}

function waitingAnswer({ url }) {
  return placeholder("waiting", make("div.picture", url && make("img", { src: url, alt: "" })), "Looking …");
}

// ---------------------------------------------------------------- what the page says of itself

function aboutSection(id, title, ...children) {
  return make("section", { "aria-labelledby": id }, make("h2", { id }, title), children);
}

function abilities({ characters, accuracy, macro_f1: macroF1, test_pictures: pictures }) {
  const score =
    accuracy == null
      ? ""
      : `Of ${pictures?.toLocaleString("en") ?? "the"} test pictures that it had never seen, it named ` +
        `${(100 * accuracy).toFixed(1)}% rightly${macroF1 == null ? "" : ` (macro F1 ${macroF1.toFixed(3)})`}; on ` +
        "pictures of another kind it is right less often. ";
  const sentences = [
    `It knows ${characters.length} characters and nobody else: whatever you show it, a cat or yourself, it names ` +
      "the one of them that looks most like it.",
    "It expects one character that fills a good part of the picture; small, half-hidden or several ones it often " +
      "mistakes.",
    `${score}A percentage says how sure the network is, which is not how often it is right.`,
  ];
  return make(
    "ul",
    sentences.map((sentence) => make("li", sentence)),
  );
}

function aboutNetwork(network) {
  return [
    aboutSection("can-title", "What it can and cannot do", abilities(network)),
    aboutSection("knows-title", `Whom ${network.name} knows`, make("p", `${network.characters.join(", ")}.`)),
    aboutSection(
      "kept-title",
      "What happens to your picture",
      make(
        "p",
        "Your browser makes it small and sends it to this server, which forgets it as soon as it has answered: " +
          "nothing is stored. The list of this visit and the names you put right are in this page alone, and gone " +
          "when you close it. An address is opened by the server, not by your browser.",
      ),
    ),
  ];
}

// ---------------------------------------------------------------- the page

function drawPage({ model, el }) {
  const { ask, stop } = questions(model);
  const about = () => model.get("about");
  const networkOf = (key) => about().networks.find((network) => network.key === key);
  const nameOf = (key) => networkOf(key)?.name ?? key;

  let pictures = []; // newest first: {id, name, blob, url, answers, veils, shownVeils, truth, isCorrecting}
  let current = null; // the picture that is shown, perhaps not yet answered
  let problems = [];
  let chosen = []; // keys of networks
  let lastPicture = 0;
  let progress = { done: 0, of: 0 }; // of the pictures that were dropped together

  // ------------------------------------------------ what is always there

  const status = make("p.unseen", { role: "status" });
  const problemBox = make("div.problems", { "data-testid": "error", role: "alert", hidden: true });
  const answerBox = make("div");
  const historyBox = make("section.history", { "aria-labelledby": "history-title", hidden: true });
  const drawingBox = make("section.drawings", { "aria-labelledby": "drawings-title" });
  const networkBox = make("div.choice");
  const aboutBox = make("div.about");

  const chooser = (label, attributes) => {
    const onchange = ({ target }) => {
      take(target.files);
      target.value = ""; // so that the same file can be chosen again
    };
    const input = make("input.unseen", { type: "file", accept: "image/*", onchange, ...attributes });
    return make("label.button", input, label);
  };
  const choose = chooser("Choose pictures", { id: "choose", multiple: true });
  const camera = chooser("Take a photo", { id: "camera", capture: "environment" });
  choose.classList.add("main");
  camera.classList.add("camera");
  const zone = make(
    "div.zone",
    { "data-testid": "drop-zone" },
    make("div.frame", { "aria-hidden": "true" }),
    make("p.call", "Drop a picture here"),
    make("p.hint", "or paste it from the clipboard, or"),
    make("div.buttons", choose, camera),
  );

  const address = make("input", {
    id: "address",
    type: "text",
    inputmode: "url",
    autocomplete: "off",
    autocapitalize: "off",
    spellcheck: "false",
    maxlength: 4000,
    placeholder: "https://…/picture.jpg",
  });
  const onsubmit = (event) => {
    event.preventDefault();
    if (address.value.trim()) takeAddress(address.value.trim());
    else address.focus();
  };
  const addressForm = make(
    "form.address",
    { onsubmit },
    make("label", { for: "address" }, "Or the address of a picture on the web"),
    make("div.row", address, make("button.button", { type: "submit" }, "Read it")),
  );

  el.classList.add("show-it-a-picture");
  el.replaceChildren(
    make(
      "div.columns",
      make("div.ask", zone, addressForm, drawingBox),
      make("section.answer", { "aria-label": "Answer" }, problemBox, answerBox, historyBox),
      networkBox,
    ),
    aboutBox,
    status,
  );

  // ------------------------------------------------ taking pictures

  function begin() {
    problems = [];
    current = null;
  }

  function fail(problem, name = "") {
    const isOurs = problem instanceof Problem;
    if (!isOurs) console.error(problem);
    const sentence = isOurs ? problem.message : "It cannot be read. Try another picture, or load the page again.";
    problems.push(new Problem(name ? `${name}: ${sentence}` : sentence, problem.reload));
  }

  function newPicture(name) {
    const picture = { id: ++lastPicture, name, answers: {}, veils: {}, shownVeils: new Set(), truth: "" };
    current ??= picture;
    drawOf(picture);
    if (picture === current) toAnswer();
    return picture;
  }

  function setBlob(picture, blob) {
    picture.blob = blob;
    picture.url = URL.createObjectURL(blob);
  }

  /** Takes pictures one after another: a browser on a phone has no room for several large ones at once. */
  async function take(files) {
    const taken = [...files].slice(0, TOGETHER);
    if (!taken.length) return;
    begin();
    if (files.length > taken.length) {
      fail(new Problem(`Of ${files.length} pictures only the first ${TOGETHER} are taken. Drop the others after.`));
    }
    const mine = (progress = { done: 0, of: taken.length });
    for (const file of taken) {
      await takeFile(file, taken.length > 1 ? file.name : "");
      mine.done += 1;
      drawHistory();
    }
  }

  async function takeFile(file, nameAmongMany) {
    const picture = newPicture(file.name || "picture");
    await finish(picture, nameAmongMany, async () => {
      const { blob, isShown } = await prepared(file, about());
      if (isShown) setBlob(picture, blob);
      drawOf(picture);
      return ask({ ask: "recognise", networks: chosen, shrink: !isShown }, await blob.arrayBuffer());
    });
  }

  async function takeAddress(text) {
    begin();
    const url = /^[a-z][a-z0-9+.-]*:/i.test(text) ? text : `https://${text}`;
    const picture = newPicture(text.split(/[?#]/)[0].split("/").pop() || text);
    status.textContent = "Reading the address.";
    await finish(picture, "", async () => {
      const answer = await ask({ ask: "fetch", url, networks: chosen });
      address.value = "";
      return answer;
    });
  }

  /** Waits for the answers to a new picture, which then belongs to the visit, or says why there are none. */
  async function finish(picture, nameAmongMany, answering) {
    try {
      const { answers, buffers } = await answering();
      if (buffers.length) setBlob(picture, new Blob(buffers));
      picture.answers = answers;
      pictures.unshift(picture);
      forgetOldest();
      say(picture);
      askOthers(picture);
    } catch (problem) {
      if (picture === current) current = null;
      fail(problem, nameAmongMany);
    }
    drawOf(picture);
    drawHistory();
    if (!current) toAnswer();
  }

  function forgetOldest() {
    for (const old of pictures.splice(KEPT)) {
      if (old === current) continue;
      for (const { url } of [old, ...Object.values(old.veils)]) URL.revokeObjectURL(url);
    }
  }

  /** Asks the networks that were chosen after the picture came. */
  async function askOthers(picture) {
    const networks = chosen.filter((key) => !picture.answers[key]);
    if (!networks.length || !picture.blob) return;
    try {
      const { answers } = await ask({ ask: "recognise", networks }, await picture.blob.arrayBuffer());
      Object.assign(picture.answers, answers);
      if (picture === current) say(picture);
    } catch (problem) {
      fail(problem);
    }
    draw();
  }

  const answersTo = (picture) => chosen.filter((key) => picture.answers[key]).map((key) => [key, picture.answers[key]]);

  /** Tells those who listen to the page; of a picture that is not shown, its name too. */
  function say(picture) {
    const whose = picture === current ? "" : `${picture.name}: `;
    const words = answersTo(picture).map(
      ([key, answer]) => (chosen.length > 1 ? `${nameOf(key)}: ` : "") + inWords(answer),
    );
    status.textContent = whose + words.join(" ");
  }

  /** Brings the answer into sight, which it may not be on a narrow screen. */
  function toAnswer() {
    const box = problems.length ? problemBox : answerBox;
    const { top } = box.getBoundingClientRect();
    const isBelow = top >= zone.getBoundingClientRect().bottom; // in one column
    if (!isBelow && top >= 0 && top <= window.innerHeight / 2) return;
    const isCalm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    box.scrollIntoView({ block: "start", behavior: isCalm ? "auto" : "smooth" });
  }

  // ------------------------------------------------ the answer

  /** Draws the answer again for what is new about a picture; a visitor who looks at another one is left alone. */
  function drawOf(picture) {
    if (!current || picture === current) drawAnswer();
    else drawProblems();
  }

  function drawAnswer() {
    const isWaiting = current && !Object.keys(current.answers).length;
    drawProblems();
    answerBox.setAttribute("aria-busy", String(Boolean(isWaiting)));
    if (isWaiting) fill(answerBox, waitingAnswer(current));
    else if (current) fill(answerBox, cards(current), correction(current));
    else fill(answerBox, !problems.length && emptyAnswer());
  }

  function drawProblems() {
    const reload = make("button.button", { onclick: () => location.reload() }, "Load the page again");
    const sentences = problems.map((problem) => make("p", problem.message));
    problemBox.hidden = !problems.length;
    fill(problemBox, sentences, problems.some((problem) => problem.reload) && reload);
  }

  function cards(picture) {
    const shown = answersTo(picture).map(([key, answer]) => card(picture, key, answer));
    const awaited = Array.from({ length: chosen.length - shown.length }, () => waitingAnswer(picture));
    return make(chosen.length > 1 ? "div.cards.several" : "div.cards", shown, awaited);
  }

  function card(picture, key, answer) {
    const by = make("p.by", make("b", nameOf(key)), make("span", networkOf(key)?.detail));
    const words = answer.problem
      ? [make("p", answer.problem)]
      : [verdict(answer), bars(answer), explanation(picture, key)];
    return make(
      answer.problem || answer.sure ? "article.card" : "article.card.unsure",
      { "aria-label": `Answer of ${nameOf(key)}` },
      pictureBox(picture, key),
      make("div.words", by, ...words),
    );
  }

  function pictureBox(picture, key) {
    const veil = picture.shownVeils.has(key) && picture.veils[key];
    return make(
      "div.picture",
      make(
        "div.layers",
        make("img", { src: picture.url, alt: `Your picture, ${picture.name}` }),
        veil && make("img.veil", { src: veil.url, alt: "", "data-testid": "heat-map" }),
      ),
    );
  }

  function explanation(picture, key) {
    const isShown = picture.shownVeils.has(key);
    const veil = isShown && picture.veils[key];
    const isAwaited = isShown && !veil;
    const onclick = () => toggleVeil(picture, key);
    const attributes = { id: `explain-${key}`, "data-testid": "explain", "aria-pressed": String(isShown), onclick };
    return [
      make("button.button", { ...attributes, "aria-busy": String(isAwaited) }, isAwaited ? "Looking …" : "What mattered?"),
      veil && make("p.soft", { "data-testid": "explanation" }, veil.sentence),
    ];
  }

  async function toggleVeil(picture, key) {
    if (!picture.shownVeils.delete(key)) {
      picture.shownVeils.add(key);
      if (picture === current) drawAnswer();
      try {
        picture.veils[key] ??= await newVeil(picture, key);
        if (picture.shownVeils.has(key)) status.textContent = picture.veils[key].sentence;
      } catch (problem) {
        picture.shownVeils.delete(key);
        fail(problem);
      }
    }
    if (picture === current) drawAnswer();
  }

  async function newVeil(picture, key) {
    const answer = await ask({ ask: "explain", network: key }, await picture.blob.arrayBuffer());
    const { name, before, after, buffers } = answer;
    const sentence =
      before - after < 0.005
        ? `No single part decides: whatever is covered, “${name}” stays at ${percent(before)}.`
        : `Bright parts mattered most. With the most important part covered, “${name}” falls from ` +
          `${percent(before)} to ${percent(after)}.`;
    return { url: URL.createObjectURL(new Blob(buffers)), sentence };
  }

  // ------------------------------------------------ corrections

  function correction(picture) {
    if (picture.isCorrecting) return correctionForm(picture);
    const onclick = () => {
      picture.isCorrecting = true;
      drawAnswer();
      document.getElementById("truth").focus();
    };
    const button = make("button.button", { id: "correct", onclick }, picture.truth ? "Change" : "Wrong? Say who it is");
    const truth = make("b", { "data-testid": "correction" }, picture.truth);
    return make("p.correction", picture.truth && ["You say: ", truth], button);
  }

  function correctionForm(picture) {
    const names = [...new Set(chosen.flatMap((key) => networkOf(key)?.characters ?? []))].sort();
    const input = make("input", {
      id: "truth",
      list: "names",
      type: "text",
      maxlength: LONGEST_NAME,
      value: picture.draft ?? picture.truth,
      autocomplete: "off",
      // The form is drawn anew when another network has answered.
      oninput: () => (picture.draft = input.value),
    });
    const onsubmit = (event) => {
      event.preventDefault();
      delete picture.draft;
      picture.truth = input.value.trim().slice(0, LONGEST_NAME);
      picture.isCorrecting = false;
      draw();
      document.getElementById("correct").focus();
    };
    return make(
      "form.correction",
      { onsubmit },
      make("label", { for: "truth" }, "Who is it really?"),
      make("div.row", input, make("button.button.main", { type: "submit" }, "Keep")),
      make(
        "datalist",
        { id: "names" },
        names.map((name) => make("option", { value: name })),
      ),
      make("p.soft", "Kept in this page only, until you close it."),
    );
  }

  // ------------------------------------------------ history

  function drawHistory() {
    const number = pictures.filter((picture) => picture.truth).length;
    const onclick = () => save(correctionsTable(pictures, nameOf), "corrections.csv");
    const button = make("button.button", { id: "download", onclick }, "Download as CSV");
    const { done, of } = progress;
    const underWay = done < of && of > 1 && make("span.soft", ` ${done} of ${of} answered`);
    historyBox.hidden = !pictures.length;
    fill(
      historyBox,
      make("h2", { id: "history-title" }, "This visit", underWay),
      make(
        "ul",
        pictures.map((picture) => make("li", thumbnail(picture))),
      ),
      number && make("p.download", `${number} ${number > 1 ? "names were" : "name was"} put right. `, button),
    );
  }

  function thumbnail(picture) {
    const [answer] = [...answersTo(picture).map(([, shown]) => shown), ...Object.values(picture.answers)];
    const title = answer.problem ? "No answer" : answer.sure ? answer.top[0][0] : "Not sure";
    const onclick = () => {
      begin();
      current = picture;
      draw();
      say(picture);
      askOthers(picture);
      toAnswer();
    };
    return make(
      "button.thumbnail",
      { id: `picture-${picture.id}`, "aria-current": picture === current && "true", onclick },
      make("img", { src: picture.url, alt: "" }),
      picture.truth ? make("span.title.right", picture.truth) : make("span.title", title),
    );
  }

  // ------------------------------------------------ what there is to choose

  function drawNetworks() {
    const { networks, together } = about();
    const rows = networks.map(({ key, name, detail }, index) => {
      const isChosen = chosen.includes(key);
      const input = make("input", {
        id: `network-${index}`,
        "data-testid": "network",
        type: "checkbox",
        checked: isChosen,
        disabled: !isChosen && chosen.length >= together,
        onchange: () => toggleNetwork(key),
      });
      return make("label", input, make("span", make("b", name), " ", make("span.soft", detail)));
    });
    const hint = networks.length > 1 && make("p.soft", "Choose several to see their answers side by side.");
    fill(networkBox, networks.length && make("fieldset.networks", make("legend", "Who answers"), hint, rows));
  }

  function toggleNetwork(key) {
    const wanted = new Set(chosen);
    if (!wanted.delete(key)) wanted.add(key);
    if (!wanted.size) wanted.add(key); // somebody has to answer
    chosen = about()
      .networks.map((network) => network.key)
      .filter((one) => wanted.has(one));
    drawNetworks();
    drawAbout();
    draw();
    if (current) askOthers(current);
  }

  function drawDrawings() {
    const { drawings, networks } = about();
    const rows = drawings.map(({ name, picture }, index) => {
      const file = new File([picture], `Drawing of ${name}`, { type: "image/jpeg" });
      const image = make("img", { src: URL.createObjectURL(file), alt: file.name });
      const attributes = { id: `drawing-${index}`, "data-testid": "example", onclick: () => take([file]) };
      return make("li", make("button", attributes, image));
    });
    const title = make("h2", { id: "drawings-title" }, "No picture at hand? Take a drawing");
    const hint =
      networks.length && `Drawn by a program; of many, these are the ones that ${networks[0].name} knows best.`;
    drawingBox.hidden = !drawings.length;
    fill(drawingBox, title, make("ul", rows), hint && make("p.soft", hint));
  }

  function drawAbout() {
    fill(aboutBox, chosen.length && aboutNetwork(networkOf(chosen[0])));
  }

  /** Draws the page that can do nothing, for want of a network. */
  function drawMissing() {
    const { problem } = about();
    for (const input of el.querySelectorAll(".ask :is(input, button)")) input.disabled = Boolean(problem);
    if (!problem) return;
    problemBox.hidden = false;
    fill(problemBox, make("p", problem), make("button.button", { id: "look", onclick: look }, "Look again"));
    fill(answerBox);
  }

  async function look() {
    try {
      await ask({ ask: "look" });
      status.textContent = about().problem ? "There is still no network." : "";
    } catch (problem) {
      fail(problem);
      drawProblems();
    }
  }

  function draw() {
    drawAnswer();
    drawHistory();
  }

  function drawAll() {
    const keys = about().networks.map((network) => network.key);
    chosen = chosen.filter((key) => keys.includes(key));
    if (!chosen.length) chosen = keys.slice(0, 1);
    drawNetworks();
    drawDrawings();
    drawAbout();
    draw();
    drawMissing();
  }

  // ------------------------------------------------ dropping and pasting, anywhere in the page

  let depth = 0; // of elements that what is dragged has entered
  function hover(change) {
    depth = Math.max(0, depth + change);
    el.classList.toggle("over", depth > 0 && !about().problem);
  }

  /** Takes what was dropped or pasted: files, else an address. */
  function takeTransfer(data) {
    const text = (data.getData("text/uri-list") || data.getData("text/plain") || "").trim().split(/\s/)[0];
    if (about().problem) return;
    if (data.files.length) take(data.files);
    else if (/^https?:/i.test(text)) takeAddress(text);
    else {
      begin();
      fail(new Problem("There was no picture in it. Save the picture as a file, and drop or choose that."));
      draw();
    }
  }

  const listeners = {
    dragenter: (event) => {
      event.preventDefault();
      hover(1);
    },
    dragover: (event) => event.preventDefault(),
    dragleave: () => hover(-1),
    drop: (event) => {
      event.preventDefault();
      hover(-depth);
      takeTransfer(event.dataTransfer);
    },
    paste: (event) => {
      if (event.target.matches?.("input, textarea") && !event.clipboardData.files.length) return;
      event.preventDefault();
      takeTransfer(event.clipboardData);
    },
  };
  // Under Voila the page is ours; in JupyterLab others want what is dropped and pasted elsewhere.
  const surface = document.body.dataset.voila ? document : el;
  for (const [name, listener] of Object.entries(listeners)) surface.addEventListener(name, listener);
  model.on("change:about", drawAll);
  drawAll();

  return () => {
    for (const [name, listener] of Object.entries(listeners)) surface.removeEventListener(name, listener);
    model.off("change:about", drawAll);
    stop();
  };
}

// ---------------------------------------------------------------- the page before its kernel

/**
 * Stands in for the widget's model until that is there: it knows what the page shows, and keeps what is asked.
 */
class ModelToCome {
  constructor(about) {
    this.about = about;
    this.model = null;
    this.listeners = [];
    this.unsent = [];
    this.whenThere = [];
  }

  get(name) {
    return this.model ? this.model.get(name) : this[name];
  }

  on(event, listener) {
    this.listeners.push([event, listener]);
    this.model?.on(event, listener);
  }

  off(event, listener) {
    this.listeners = this.listeners.filter(([, one]) => one !== listener);
    this.model?.off(event, listener);
  }

  send(...message) {
    if (this.model) this.model.send(...message);
    else this.unsent.push(message);
  }

  /** Calls a function when what was sent has really gone. */
  whenSent(callback) {
    if (this.model) callback();
    else this.whenThere.push(callback);
  }

  /** Hands everything over to the widget's model, which is there now. */
  become(model) {
    this.model = model;
    for (const listener of this.listeners) model.on(...listener);
    for (const message of this.unsent.splice(0)) model.send(...message);
    for (const callback of this.whenThere.splice(0)) callback();
  }
}

/**
 * Draws the page where no widget is yet, and lets it be used: Voila's own scripts weigh 5 MB, and a visitor with a
 * picture in hand need not wait for them.
 *
 * @param {object} about What the widget's trait of that name holds, pictures as base64.
 * @param {HTMLElement} el Where.
 */
export function drawAhead(about, el) {
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const drawings = about.drawings.map((drawing) => ({ ...drawing, picture: bytes(drawing.picture) }));
  const model = new ModelToCome({ ...about, drawings });
  // The widget is drawn by another copy of this module; the window is what both know.
  window.pageAhead = { model, leave: drawPage({ model, el }) };
}

function render({ model, el }) {
  const ahead = window.pageAhead;
  if (!ahead || ahead.model.model) return drawPage({ model, el });
  ahead.model.become(model);
  return ahead.leave;
}

export default { render };
