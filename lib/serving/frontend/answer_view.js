// What an answer looks like: names and percentages, outlines on the picture, what mattered, and who is right.

import { button, hyphenated, make, percent, shortPercent, sized } from "./dom.js";
import { markingView } from "./marking_view.js";

const NUM_BARS = 5;
const LONGEST_NAME = 60; // characters of a name that a visitor gives
export const NOBODY = "None of these";

/** Says an answer in a sentence. */
export function sentence(page, key, answer) {
  if (answer.problem) return answer.problem;
  if (!answer.known) return `I don't recognise anyone. ${closest(page, key, answer)}`;
  return `${names(answer)}${answer.found.length > 1 ? ", together" : ","} ${percent(together(answer))}.`;
}

const LIST = new Intl.ListFormat("en-GB"); // "one, two and three"

export const names = (answer) => LIST.format([answer, ...others(answer)].map(({ name }) => name));

/** The probability that the network's decision goes by: it is divided among the characters in a picture. */
export const together = ({ found, character, probabilities }) =>
  [...new Set([character, ...found.map((one) => one.character)])].reduce((sum, label) => sum + probabilities[label], 0);

const closest = (page, key, { closest: label, probability }) =>
  `Closest: ${page.nameOfCharacter(key, label)} (${percent(probability)}).`;

const others = ({ found, character }) => found.filter((one) => one.character !== character);

export function emptyAnswer() {
  const hint = "Here you will see the name, and how sure the network is of it.";
  return placeholder("empty", make("div.picture", { "aria-hidden": "true" }, "?"), "Nobody yet", hint);
}

/** The shape of an answer that is not there. */
function placeholder(kind, picture, name, hint) {
  const ghost = make("div.ghost", { "aria-hidden": "true" }, make("i"), make("i"), make("i"));
  return make(`div.card.${kind}`, picture, make("div.words", make("p.name", name), hint && make("p.soft", hint), ghost));
}

const waiting = ({ url }) => placeholder("waiting", make("div.picture", make("img", { src: url, alt: "" })), "Looking …");

export function answerView(page, entry) {
  const shown = page.answersTo(entry);
  const cards = shown.map(([key, answer]) => card(page, entry, key, answer));
  const awaited = Array.from({ length: page.chosen.length - shown.length }, () => waiting(entry));
  const judgement = shown.length > 0 && judgementView(page, entry);
  return [make(page.chosen.length > 1 ? "div.cards.several" : "div.cards", cards, awaited), judgement];
}

function card(page, entry, key, answer) {
  const words = answer.problem
    ? [make("p", answer.problem)]
    : [verdict(page, key, answer), bars(page, key, answer)];
  return make(
    answer.known ? "article.card" : "article.card.unsure",
    { "aria-label": `Answer of ${page.nameOf(key)}` },
    pictureBox(page, entry, key, answer),
    make("div.words", page.about.networks.length > 1 && make("p.soft", page.nameOf(key)), words),
    !answer.problem && make("div.below", tools(page, entry, key, answer)),
  );
}

function verdict(page, key, answer) {
  if (!answer.known) {
    return make(
      "div.verdict",
      { "data-testid": "prediction", "data-character": "" },
      make("h2.name", "I don't recognise anyone."),
      make("p", closest(page, key, answer)),
    );
  }
  const isSeveral = answer.found.length > 1;
  return make(
    "div.verdict",
    sized(make(isSeveral ? "h2.name.n0" : "h2.name", { "data-testid": "prediction", "data-character": answer.character }, answer.name)),
    others(answer).map(({ name }, index) => sized(make(`p.name.also.n${index + 1}`, { "data-testid": "also" }, name))),
    make(
      "p.share",
      `${isSeveral ? "together " : ""}${percent(together(answer))}`,
      answer.confused && make("span.soft", " · sometimes confused"),
    ),
  );
}

function bars(page, key, { probabilities }) {
  const top = Object.entries(probabilities).sort((one, other) => other[1] - one[1]);
  const rows = top.slice(0, NUM_BARS).map(([label, share]) => {
    const bar = make("i", { "aria-hidden": "true" });
    bar.style.setProperty("--share", share);
    return make("li", make("span.who", hyphenated(page.nameOfCharacter(key, label))), " ", bar, make("span.percent", shortPercent(share)));
  });
  return make("ol.bars", { "data-testid": "probabilities", "aria-label": "The most probable characters" }, rows);
}

function pictureBox(page, entry, key, { found = [] }) {
  const veil = entry.shownVeil?.startsWith(`${key} `) && entry.veils[entry.shownVeil];
  const isPlaced = found.some(({ box }) => box?.some((side, index) => side !== (index < 2 ? 0 : 1)));
  return make(
    "div.picture",
    make(
      "div.layers",
      make("img", { src: entry.url, alt: `Your picture, ${entry.name}` }),
      veil && make("img.veil", { src: veil.url, alt: "", "data-testid": "heat-map" }),
      isPlaced && outlines(found),
      entry.marking === key && markingView(page, entry, markId(key)),
    ),
  );
}

function outlines(found) {
  const rectangles = found.map(({ box: [left, top, right, bottom] }, index) =>
    make(`rect.n${index}`, { x: left, y: top, width: right - left, height: bottom - top }),
  );
  return make(
    "svg.outlines",
    { viewBox: "0 0 1 1", preserveAspectRatio: "none", "aria-hidden": "true", "data-testid": "outlines" },
    rectangles,
  );
}

function tools(page, entry, key, answer) {
  const named = answer.found.length ? answer.found : [{ character: answer.closest, name: "" }];
  const explain = named.map(({ character, name }, index) => {
    const id = `${key} ${character}`;
    const isShown = entry.shownVeil === id;
    const isAwaited = isShown && !entry.veils[id];
    const label = named.length > 1 ? `What mattered for ${name}?` : "What mattered?";
    return button(isAwaited ? "Looking …" : label, () => page.toggleVeil(entry, key, character), {
      id: `explain-${index}-${key}`,
      "data-testid": "explain",
      "aria-pressed": String(isShown),
      "aria-busy": String(isAwaited),
    });
  });
  const veil = entry.veils[entry.shownVeil];
  const isOurs = veil && entry.shownVeil.startsWith(`${key} `);
  return [
    make("div.tools", explain, markButton(page, entry, key), shareButton(page, key, answer)),
    entry.marking === key && make("p.soft", "Drag a box over the part to look at. Arrow keys and Enter do it too."),
    isOurs && make("p.soft", { "data-testid": "explanation" }, veil.sentence),
  ];
}

const markId = (key) => `mark-${key}`;

function markButton(page, entry, key) {
  const onclick = () => {
    entry.marking = entry.marking === key ? null : key;
    page.draw();
    document.getElementById("marking")?.focus();
  };
  const attributes = { id: markId(key), "data-testid": "mark", "aria-pressed": String(entry.marking === key) };
  return button("Look at a part", onclick, attributes);
}

function shareButton(page, key, answer) {
  const text = sentence(page, key, answer);
  const onclick = async ({ target }) => {
    if (navigator.share) return navigator.share({ text }).catch(() => {}); // the visitor may think better of it
    const words = await navigator.clipboard.writeText(text).then(() => "Copied", () => "The browser forbids it");
    target.textContent = page.status.textContent = words;
  };
  const isPossible = navigator.share || navigator.clipboard;
  return isPossible && button(navigator.share ? "Share" : "Copy", onclick, { id: `share-${key}`, "data-testid": "share" });
}

// ---------------------------------------------------------------- who is right

function judgementView(page, entry) {
  if (entry.isCorrecting) return correctionForm(page, entry);
  const [, answer] = page.answersTo(entry)[0];
  const onclick = () => {
    entry.isCorrecting = true;
    page.draw();
    document.getElementById("truth").focus();
  };
  const wrong = (label) => button(label, onclick, { id: "correct" });
  if (entry.truth) {
    const isElse = !entry.truth.label && entry.truth.name !== NOBODY;
    const said = make("b", { "data-testid": "correction" }, entry.truth.name);
    return make("p.judgement", "You say: ", said, isElse && make("span.soft", " (nobody whom the network knows)"), wrong("Change"));
  }
  const { character: label, name } = answer;
  const right = answer.known && button("Right", () => page.correct(entry, { label, name }), { id: "right", "data-testid": "right" });
  return make("p.judgement", right, wrong(answer.known ? "Wrong? Say who it is" : "Say who it is"));
}

/** Finds the one character that a visitor means: by the whole name, or by a word that no other name has. */
function called(name, characters) {
  const typed = name.toLowerCase();
  const words = characters.filter(([, one]) => one.toLowerCase().split(" ").includes(typed));
  return characters.find(([, one]) => one.toLowerCase() === typed) ?? (words.length === 1 ? words[0] : undefined);
}

function correctionForm(page, entry) {
  const characters = new Map(page.chosen.flatMap((key) => page.networkOf(key)?.characters ?? []));
  const names = [...characters.values()].sort();
  const input = make("input", {
    id: "truth",
    list: "names",
    type: "text",
    maxlength: LONGEST_NAME,
    value: entry.draft ?? entry.truth?.name,
    autocomplete: "off",
    // The form is drawn anew when another network has answered.
    oninput: () => (entry.draft = input.value),
  });
  const keep = (name) => {
    delete entry.draft;
    const [label, known] = called(name, [...characters]) ?? ["", name];
    page.correct(entry, name ? { label, name: known } : null);
  };
  const onsubmit = (event) => {
    event.preventDefault();
    keep(input.value.trim().slice(0, LONGEST_NAME));
  };
  return make(
    "form.judgement",
    { onsubmit },
    make("label", { for: "truth" }, "Who is it really?"),
    make(
      "div.row",
      input,
      make("button.button.main", { id: "keep-truth", type: "submit" }, "Save"),
      button(NOBODY, () => keep(NOBODY), { id: "nobody", "data-testid": "nobody" }),
    ),
    make(
      "datalist",
      { id: "names" },
      names.map((name) => make("option", { value: name })),
    ),
    make("p.soft", page.shelf.isOn ? "Kept in this browser." : "Kept in this page only, until you close it."),
  );
}
