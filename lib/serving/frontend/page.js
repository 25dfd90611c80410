// What a visitor sees and does. Pictures, answers and corrections of the visit live here, in the browser; whoever
// answers (the kernel, or a worker on this device) remembers nothing.
//
// A transport has `about` (what the page shows of the networks), `privacy` (what happens to pictures), `keeps` (whether
// the browser may keep them) and `links`, and answers four questions: `recognise(picture, keys)`,
// `explain(picture, key, character)`, `fetch(url)` where it can, and `look()`, whether there is a network now.

import { aboutView } from "./about_view.js";
import { answerView, emptyAnswer, sentence } from "./answer_view.js";
import { Camera } from "./camera.js";
import { OPENED_SIDE, pictureOf } from "./decode.js";
import { fill, make, percent } from "./dom.js";
import { historyView } from "./history_view.js";
import { inputView, listenForPictures } from "./input_view.js";
import { networksView } from "./networks_view.js";
import { copyOf, inspect, opened, sha256 } from "./pictures.js";
import { Problem, inWords } from "./problem.js";
import { Shelf } from "./shelf.js";
import { triesView, wallView } from "./wall_view.js";

const TOGETHER = 200; // pictures taken at once
const KEPT = 300; // pictures of this visit; the oldest go first
const NAMED = 5; // pictures in a message
const SHOWN_SIDE = 512; // pixels of the copy that is shown
const PART_SIDE = 2048; // pixels of a part that is looked at as a picture of its own

/** Names the pictures that a message is about; of many, the first ones. No name turns the direction of the others. */
function inFew(names) {
  if (!names.length) return [];
  const others = names.length > NAMED && ` and ${names.length - NAMED} more`;
  const first = names.slice(0, NAMED).flatMap((name, index) => [index > 0 && ", ", make("bdi", name)]);
  return [...first, others, ": "];
}

/** Gives a picture that can still be read, its small copy where the file was moved or deleted since. */
async function readable({ picture, shown }) {
  if (!(picture.source instanceof Blob)) return picture;
  try {
    await picture.source.slice(0, 1).arrayBuffer();
    return picture;
  } catch {
    return shown;
  }
}

export class Page {
  constructor(transport, el, surface) {
    this.transport = transport;
    this.el = el;
    this.pictures = []; // newest first; see `newPicture`
    this.forgotten = []; // what had to go to make room, without pictures, for the table of answers
    this.current = null; // the picture that is shown, perhaps not yet answered
    this.problems = [];
    this.chosen = []; // keys of networks
    this.progress = { done: 0, of: 0 }; // of the pictures that were dropped together
    this.lastPicture = 0;
    this.search = ""; // in the wall
    this.isSaved = true; // whether every correction has been downloaded
    this.shelf = new Shelf();
    this.shelf.onCleared = () => this.useShelf(() => {});
    this.camera = new Camera(this);
    this.build();
    transport.onAbout?.(() => this.drawAll());
    transport.onProgress = (share) => this.drawProgress(share);
    this.drawAll();
    this.stopListening = listenForPictures(this, surface);
    this.warn = (event) => this.isSaved || event.preventDefault();
    window.addEventListener("beforeunload", this.warn);
    window.hasUnsaved = () => !this.isSaved; // which Voila's page asks
    this.restored = transport.keeps && this.shelf.all().then((kept) => kept.length && this.restore(kept));
  }

  leave() {
    this.stopListening();
    this.camera.stop();
    window.removeEventListener("beforeunload", this.warn);
  }

  get about() {
    return this.transport.about;
  }

  networkOf(key) {
    return this.about.networks.find((network) => network.key === key);
  }

  nameOf(key) {
    return this.networkOf(key)?.name ?? key;
  }

  /** Gives the display name of a label. */
  nameOfCharacter(key, label) {
    return this.networkOf(key)?.characters.find(([one]) => one === label)?.[1] ?? label;
  }

  // ------------------------------------------------ the frame of the page

  build() {
    this.status = make("p.unseen", { role: "status" });
    this.progressBox = make("div.loading", { hidden: true });
    this.problemBox = make("div.problems", { "data-testid": "error", role: "alert", hidden: true });
    this.answerBox = make("div");
    this.tryBox = make("section.tries", { "aria-labelledby": "tries-title" });
    this.networkBox = make("div.choice");
    this.wallBox = make("section.wall", { "aria-labelledby": "wall-title", "data-testid": "wall" });
    this.aboutBox = make("div.about");
    this.inputBox = inputView(this);
    this.history = historyView(this);
    this.el.classList.add("who-is-it");
    this.el.replaceChildren(
      make(
        "div.columns",
        make("div.ask", this.inputBox, this.tryBox),
        make(
          "section.answer",
          { "aria-label": "Answer" },
          this.camera.box,
          this.progressBox,
          this.problemBox,
          this.answerBox,
          this.history.box,
        ),
        this.networkBox,
      ),
      this.wallBox,
      this.aboutBox,
      this.status,
    );
  }

  drawAll() {
    const keys = this.about.networks.map((network) => network.key);
    this.chosen = this.chosen.filter((key) => keys.includes(key));
    if (!this.chosen.length) this.chosen = keys.slice(0, 1);
    this.drawNetworks();
    this.draw();
    for (const input of this.el.querySelectorAll(".ask :is(input, button)")) input.disabled = !keys.length;
  }

  drawNetworks() {
    fill(this.networkBox, networksView(this));
    fill(this.tryBox, triesView(this));
    this.tryBox.hidden = !this.tryBox.childElementCount;
    fill(this.wallBox, wallView(this));
    this.wallBox.hidden = !this.chosen.length;
    fill(this.aboutBox, aboutView(this));
  }

  draw() {
    this.drawProblems();
    this.drawAnswer();
    this.history.draw();
  }

  drawAnswer() {
    const { current } = this;
    this.answerBox.setAttribute("aria-busy", String(Boolean(current && !Object.keys(current.answers).length)));
    fill(this.answerBox, current ? answerView(this, current) : !this.problems.length && emptyAnswer());
  }

  /** Draws what differs after news of a picture: whoever presses a button elsewhere would not click one drawn anew. */
  drawAfter(entry) {
    if (entry === this.current) this.drawAnswer();
    this.history.draw();
  }

  drawProblems() {
    const { problem } = this.about;
    const again = make("button.button", { id: "look", onclick: () => this.look() }, "Look again");
    const reload = make("button.button", { id: "reload", onclick: () => location.reload() }, "Load the page again");
    this.problemBox.hidden = !problem && !this.problems.length;
    fill(
      this.problemBox,
      problem && [make("p", problem), again],
      this.problems.map(({ names, words }) => make("p", inFew(names), words)),
      this.problems.some((one) => one.reload) && reload,
    );
  }

  /** Shows how much of the recogniser has come, 0 to 1; null when it is there. */
  drawProgress(share) {
    this.progressBox.hidden = share === null;
    if (share === null) return fill(this.progressBox);
    this.progressBar ??= make("progress", { max: 1, "aria-label": "Loading the recogniser" });
    this.progressBar.value = share;
    if (!this.progressBox.childElementCount) {
      const words = "Loading the recogniser. You can choose pictures meanwhile.";
      fill(this.progressBox, make("p", { role: "status" }, words), this.progressBar);
    }
  }

  // ------------------------------------------------ taking pictures

  /** Forgets what went wrong before. */
  begin() {
    this.problems = [];
    this.draw();
  }

  fail(problem, name = "") {
    const words = inWords(problem);
    let same = this.problems.find((one) => one.words === words);
    if (!same) this.problems.push((same = { words, names: [], reload: problem.reload }));
    if (name) same.names.push(name);
    this.drawProblems();
    if (!this.current) this.drawAnswer();
  }

  newPicture(name) {
    this.lastPicture = Math.max(this.lastPicture + 1, Date.now()); // another tab may keep pictures too
    return {
      id: this.lastPicture,
      name,
      sha256: "", // of the file
      picture: null, // { source, width, height }
      shown: null, // a small copy
      url: null, // of that
      answers: {}, // by key of the network
      files: {}, // of the networks that gave them, by key: a page that is made anew may have others of that key
      veils: {}, // by key and label
      shownVeil: null,
      truth: null, // { label, name }; the label is "" for somebody unknown
      isCorrecting: false,
      before: null, // what was shown before it, until it is answered
      marking: null, // the network in whose card a part is marked
      when: new Date().toISOString(),
    };
  }

  /** Takes pictures one after another: a phone has no room for several large ones at once. */
  async take(files) {
    const taken = [...files].slice(0, TOGETHER);
    if (!taken.length) return;
    this.begin();
    if (files.length > taken.length) {
      this.fail(new Problem(`Of ${files.length} pictures only the first ${TOGETHER} are taken. Drop the rest afterwards.`));
    }
    const mine = (this.progress = { done: 0, of: taken.length });
    let first = true;
    for (const file of taken) {
      const entry = this.newPicture(file.name || "picture");
      const name = taken.length > 1 ? entry.name : "";
      first = !(await this.finish(entry, () => inspect(file, this.about.limits), name, first)) && first;
      mine.done += 1;
      this.history.draw();
    }
  }

  /** Takes one picture that has to be read or made first, by a function that gives its file. */
  takeOne(name, read) {
    this.begin();
    return this.finish(this.newPicture(name), async () => inspect(await read(), this.about.limits), "", true);
  }

  takeAddress(text) {
    const url = /^[a-z][a-z0-9+.-]*:/i.test(text) ? text : `https://${text}`;
    this.status.textContent = "Reading the address.";
    return this.takeOne(text.split(/[?#]/)[0].split("/").pop() || text, () => this.transport.fetch(url));
  }

  /** Looks at a part as at a picture of its own; `box` as fractions. */
  takePart(entry, box) {
    return this.takeOne(`part of ${entry.name}`, async () => (await copyOf(await readable(entry), PART_SIDE, box)).source);
  }

  /**
   * Opens a new picture and waits for its answers; then it belongs to the visit. What was shown stays until there is
   * something better to show.
   *
   * @returns {Promise<boolean>} Whether it was answered.
   */
  async finish(entry, opening, nameAmongMany, isShown) {
    try {
      entry.picture = await opening();
      const digest = sha256(entry.picture.source); // now, since a file may be moved later
      const preview = await opened(entry.picture, OPENED_SIDE); // decoded once, for visitor and networks
      entry.shown = await copyOf(pictureOf(preview), SHOWN_SIDE);
      entry.url = URL.createObjectURL(entry.shown.source);
      if (isShown) {
        entry.before = this.current;
        this.show(entry);
      }
      const asked = this.chosen;
      this.answered(entry, await this.transport.recognise({ ...entry.picture, preview }, asked));
      entry.sha256 = await digest;
      entry.before = null;
      preview.close();
      this.pictures.unshift(entry);
      this.forgetOldest();
      this.keep(entry);
      this.say(entry);
      this.drawAfter(entry);
      if (asked !== this.chosen) this.askOthers(entry);
      return true;
    } catch (problem) {
      entry.hasFailed = true;
      while (this.current?.hasFailed) this.current = this.current.before;
      this.fail(problem, nameAmongMany);
      if (isShown) this.draw();
      if (isShown) this.scrollTo(this.problemBox);
      return false;
    }
  }

  show(entry) {
    this.current = entry;
    this.draw();
    this.scrollTo(this.answerBox);
  }

  /** Shows an earlier picture. */
  revisit(entry) {
    if (this.progress.done === this.progress.of) this.begin(); // else what is wrong with others of a batch would be lost
    this.show(entry);
    this.say(entry);
    this.askOthers(entry);
  }

  forgetOldest() {
    for (const old of this.pictures.splice(KEPT)) {
      if (this.shelf.isOn) this.useShelf(() => this.shelf.remove(old.id));
      this.forgotten.unshift(old);
      if (old === this.current) continue;
      old.picture = old.shown = null;
      for (const url of [old.url, ...Object.values(old.veils).map((veil) => veil.url)]) URL.revokeObjectURL(url);
    }
  }

  /** Asks the networks that have not answered: those that were chosen after the picture came, or could not. */
  async askOthers(entry) {
    const keys = this.chosen.filter((key) => !entry.answers[key] || entry.answers[key].problem);
    if (!keys.length) return;
    const failed = (problem) => Object.fromEntries(keys.map((key) => [key, { problem: inWords(problem) }]));
    this.answered(entry, await readable(entry).then((picture) => this.transport.recognise(picture, keys)).catch(failed));
    this.keep(entry);
    if (entry === this.current) this.say(entry);
    this.drawAfter(entry);
  }

  answered(entry, answers) {
    Object.assign(entry.answers, answers);
    for (const key of Object.keys(answers)) entry.files[key] = this.networkOf(key)?.file;
  }

  async look() {
    this.begin();
    try {
      await this.transport.look();
      this.status.textContent = this.about.problem ? "There is still no network." : "";
    } catch (problem) {
      this.fail(problem);
    }
  }

  // ------------------------------------------------ what can be done with an answer

  answersTo(entry) {
    return this.chosen.filter((key) => entry.answers[key]).map((key) => [key, entry.answers[key]]);
  }

  async toggleVeil(entry, key, character) {
    const id = `${key} ${character}`;
    entry.shownVeil = entry.shownVeil === id ? null : id;
    this.draw();
    if (!entry.shownVeil) return;
    try {
      entry.veils[id] ??= await this.newVeil(entry, key, character);
      if (entry.shownVeil === id) this.status.textContent = entry.veils[id].sentence;
    } catch (problem) {
      if (entry.shownVeil === id) entry.shownVeil = null;
      this.fail(problem);
    }
    this.drawAfter(entry);
  }

  async newVeil(entry, key, character) {
    const { name, before, after, veil } = await this.transport.explain(await readable(entry), key, character);
    const falls = `falls from ${percent(before)} to ${percent(after ?? before)}`;
    const words =
      after === null
        ? `Bright: where the network sees “${name}”.`
        : percent(before) === percent(after)
          ? `No single part decides: whatever is covered, “${name}” stays at ${percent(before)}.`
          : `Bright parts mattered most. With the most important part covered, “${name}” ${falls}.`;
    return { url: URL.createObjectURL(veil), sentence: words };
  }

  correct(entry, truth) {
    this.isSaved &&= truth === entry.truth; // null, of a form that was left empty
    if (truth !== entry.truth) Object.assign(entry, { when: new Date().toISOString(), isDownloaded: false });
    entry.truth = truth;
    entry.isCorrecting = false;
    this.keep(entry);
    this.draw();
    document.getElementById("correct")?.focus();
  }

  toggleNetwork(key) {
    const wanted = new Set(this.chosen);
    if (!wanted.delete(key)) wanted.add(key);
    this.chosen = this.about.networks.map((network) => network.key).filter((one) => wanted.has(one));
    this.drawNetworks();
    this.draw();
    if (this.current && Object.keys(this.current.answers).length) this.askOthers(this.current); // else when it is answered
  }

  // ------------------------------------------------ what is kept in the browser, if the visitor wants

  keep(entry) {
    return this.useShelf(() => this.shelf.isOn && this.shelf.put(entry));
  }

  /** Keeps the pictures, or nothing any more. */
  toggleShelf(isWanted) {
    return this.useShelf(async () => {
      if (!isWanted) await this.shelf.clear();
      else for (const entry of [...this.pictures].reverse()) await this.shelf.put(entry);
    });
  }

  /** Changes what is kept, one change after the other; where that fails, what the visitor said is not safe. */
  useShelf(change) {
    const before = this.restored; // whether pictures are kept is known only then
    this.restored = (async () => {
      await before;
      await change();
    })()
      .catch((problem) => this.fail(problem))
      .then(() => {
        const notKept = this.shelf.isOn ? this.forgotten : [...this.pictures, ...this.forgotten];
        this.isSaved = notKept.every((entry) => !entry.truth || entry.isDownloaded);
        this.history.draw();
      });
    return this.restored;
  }

  restore(kept) {
    const entries = kept.map((entry) => ({
      ...this.newPicture(entry.name),
      ...entry,
      shown: entry.picture,
      url: URL.createObjectURL(entry.picture.source),
    }));
    this.pictures.push(...entries.reverse());
    this.forgetOldest();
    this.draw();
    this.askAgain(entries);
  }

  /** Asks anew where a network of the same key is another one by now. */
  async askAgain(entries) {
    for (const entry of entries) {
      const isOld = (key) => this.networkOf(key) && this.networkOf(key).file !== entry.files[key];
      const keys = Object.keys(entry.answers).filter(isOld);
      const answers = keys.length && (await this.transport.recognise(entry.picture, keys).catch(() => null));
      const good = Object.entries(answers || {}).filter(([, answer]) => !answer.problem);
      if (!good.length) continue; // the next visit tries again
      this.answered(entry, Object.fromEntries(good));
      this.keep(entry);
      this.drawAfter(entry);
    }
  }

  // ------------------------------------------------ for those who listen, and on narrow screens

  /** Tells those who listen to the page; of a picture that is not shown, its name too. */
  say(entry) {
    const whose = entry === this.current ? "" : `${entry.name}: `;
    const words = this.answersTo(entry).map(
      ([key, answer]) => (this.chosen.length > 1 ? `${this.nameOf(key)}: ` : "") + sentence(this, key, answer),
    );
    this.status.textContent = whose + words.join(" ");
  }

  /** Brings what is new into sight, which it may not be in one column. */
  scrollTo(box) {
    const { top } = box.getBoundingClientRect();
    const isBelow = top >= this.inputBox.getBoundingClientRect().bottom;
    if (!isBelow && top >= 0 && top <= window.innerHeight / 2) return;
    const isCalm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    box.scrollIntoView({ block: "start", behavior: isCalm ? "auto" : "smooth" });
  }
}
