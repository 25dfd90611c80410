// The pictures of this visit as a grid, and their answers as a table.

import { NOBODY, names, together } from "./answer_view.js";
import { button, fill, hyphenated, make, save, shortPercent } from "./dom.js";
import { table } from "./table.js";

/** Builds the part of the page with the pictures; gives it as `box`, and `draw`, which brings it up to date. */
export function historyView(page) {
  const rows = new WeakMap(); // of pictures, which stay as they are: whoever presses one clicks it
  const heading = make("h2", { id: "history-title" });
  const list = make("ul");
  const download = () => {
    save(table(page), "text/csv", "answers.csv");
    for (const entry of [...page.pictures, ...page.forgotten]) entry.isDownloaded = true;
    page.isSaved = true;
  };
  const keep = make("input", { id: "keep", type: "checkbox", onchange: () => page.toggleShelf(keep.checked) });
  const box = make(
    "section.history",
    { "aria-labelledby": "history-title" },
    heading,
    list,
    make(
      "p.row",
      button("Download all answers (CSV)", download, { id: "download" }),
      page.transport.keeps && make("label.check", keep, "Keep them in this browser"),
    ),
  );
  const row = (entry) => {
    if (!rows.has(entry)) rows.set(entry, make("li", thumbnail(page, entry)));
    const [tile] = rows.get(entry).children;
    tile.setAttribute("aria-current", String(entry === page.current));
    const title = titleOf(page, entry);
    if (!tile.lastChild.isEqualNode(title)) tile.lastChild.replaceWith(title);
    return rows.get(entry);
  };
  const draw = () => {
    const { pictures, progress, shelf } = page;
    const isUnderWay = progress.done < progress.of && progress.of > 1;
    box.hidden = !pictures.length;
    fill(heading, "Your pictures", isUnderWay && make("span.soft", ` ${progress.done} of ${progress.of} answered`));
    keep.checked = shelf.isOn;
    const wanted = pictures.map(row);
    for (const old of [...list.children]) if (!wanted.includes(old)) old.remove();
    wanted.forEach((one, place) => one === list.children[place] || list.insertBefore(one, list.children[place]));
  };
  return { box, draw };
}

function thumbnail(page, entry) {
  const attributes = { id: `picture-${entry.id}`, type: "button", onclick: () => page.revisit(entry), title: entry.name };
  return make("button.thumbnail", attributes, make("img", { src: entry.url, alt: "" }), make("span"));
}

function titleOf(page, entry) {
  const [answer] = [...page.answersTo(entry).map(([, shown]) => shown), ...Object.values(entry.answers)];
  const name = answer.problem ? "No answer" : answer.known ? names(answer) : "Nobody";
  return entry.truth
    ? make("span.title.right", entry.truth.name === NOBODY ? "Nobody" : hyphenated(entry.truth.name))
    : make("span.title", hyphenated(name), answer.known && make("span.soft", ` ${shortPercent(together(answer))}`));
}
