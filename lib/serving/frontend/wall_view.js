// Drawings to try, and everybody whom the network knows.

import { fill, hyphenated, make } from "./dom.js";

const TRIES = 4;

const pictureOf = ({ picture }) => (typeof picture === "string" ? picture : URL.createObjectURL(new Blob([picture])));

const fileOf = async ({ picture }) =>
  typeof picture === "string" ? (await fetch(picture)).blob() : new Blob([picture], { type: "image/jpeg" });

const take = (page, drawing) => page.takeOne(`Drawing of ${drawing.name}`, () => fileOf(drawing));

const image = (page, drawing) => make("img", { src: (drawing.url ??= pictureOf(drawing)), alt: "", width: 256, height: 256 });

/** Chooses drawings to try, of characters whom the network knows; of any while there is no network. */
export function tries(page) {
  const known = page.networkOf(page.chosen[0])?.characters.map(([label]) => label);
  return page.about.drawings.filter(({ character }) => known?.includes(character) ?? true).slice(0, TRIES);
}

export function triesView(page) {
  const rows = tries(page).map((drawing, index) => {
    const label = `Try the drawing of ${drawing.name}`;
    const attributes = { id: `drawing-${index}`, type: "button", "data-testid": "example", "aria-label": label };
    return make("li", make("button.drawing", { ...attributes, onclick: () => take(page, drawing) }, image(page, drawing)));
  });
  return rows.length && [make("h2", { id: "tries-title" }, "No picture at hand? Take a drawing"), make("ul", rows)];
}

export function wallView(page) {
  const network = page.networkOf(page.chosen[0]);
  if (!network) return [];
  const drawn = new Map(page.about.drawings.map((drawing) => [drawing.character, drawing]));
  const list = make("ul");
  const draw = () => {
    const wanted = network.characters.filter(([, name]) => name.toLowerCase().includes(page.search.toLowerCase()));
    const tiles = wanted.map(([label, name]) => tile(page, drawn.get(label), name));
    fill(list, tiles.length ? tiles : make("li.none", "Nobody of that name."));
  };
  const oninput = ({ target }) => {
    page.search = target.value.trim();
    draw();
  };
  const input = make("input", { id: "search", type: "search", value: page.search, "aria-label": "Search by name", placeholder: "Search", oninput });
  draw();
  return [
    make("div.row", make("h2", { id: "wall-title" }, `Whom ${page.about.networks.length > 1 ? network.name : "it"} knows`), input),
    list,
  ];
}

function tile(page, drawing, name) {
  const face = drawing ? image(page, drawing) : make("span.face", { "aria-hidden": "true" }, name[0]);
  const onclick = () => take(page, drawing);
  const label = make("span", hyphenated(name));
  return make("li", drawing ? make("button.drawing", { type: "button", onclick }, face, label) : [face, label]);
}
