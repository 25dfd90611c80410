// The pictures of this visit as a grid, and their answers as a table.

import { NOBODY, names, together } from "./answer_view.js";
import { button, hyphenated, make, save, shortPercent } from "./dom.js";
import { table } from "./table.js";

export function historyView(page) {
  const { pictures, progress, shelf } = page;
  const underWay = progress.done < progress.of && progress.of > 1;
  const download = () => {
    save(table(page), "text/csv", "answers.csv");
    page.isSaved = true;
  };
  const keep = make("input", { id: "keep", type: "checkbox", checked: shelf.isOn, onchange: () => page.toggleShelf() });
  return [
    make("h2", { id: "history-title" }, "Your pictures", underWay && make("span.soft", ` ${progress.done} of ${progress.of} answered`)),
    make(
      "ul",
      pictures.map((entry) => make("li", thumbnail(page, entry))),
    ),
    make(
      "p.row",
      button("Download all answers (CSV)", download, { id: "download" }),
      page.about.keeps && make("label.check", keep, "Keep them in this browser"),
    ),
  ];
}

function thumbnail(page, entry) {
  const [answer] = [...page.answersTo(entry).map(([, shown]) => shown), ...Object.values(entry.answers)];
  const name = answer.problem ? "No answer" : answer.known ? names(answer) : "Nobody";
  const title = entry.truth
    ? make("span.title.right", entry.truth.name === NOBODY ? "Nobody" : hyphenated(entry.truth.name))
    : make("span.title", hyphenated(name), answer.known && make("span.soft", ` ${shortPercent(together(answer))}`));
  const attributes = { id: `picture-${entry.id}`, type: "button", "aria-current": entry === page.current && "true" };
  const onclick = () => page.revisit(entry);
  return make("button.thumbnail", { ...attributes, onclick, title: entry.name }, make("img", { src: entry.url, alt: "" }), title);
}
