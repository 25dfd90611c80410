// Mistakes that can be opened: matrix → pictures → one picture.

function render({ model, el }) {
  const ask = asker(model, (text) => say(text, true));
  const root = make("div.study", { "data-testid": "explore" });
  const filters = make("div.row");
  const matrix = make("div.matrix");
  const gallery = make("div", { "data-testid": "gallery" });
  const details = make("div", { "data-testid": "details" });
  const status = make("div.status", { role: "status", "data-testid": "status" });
  root.append(filters, status, make("div.columns", {}, matrix, make("div.beside", {}, gallery, details)));
  el.append(root);
  let view = {};
  let opened = 0; // what was asked for last: a late answer to an earlier question is dropped

  async function show(change = {}) {
    view = { ...view, ...change };
    const asked = ++opened;
    const answer = await ask("matrix", { view });
    if (asked !== opened) return;
    if (answer.problem) return say(answer.problem, true);
    view = answer.view;
    drawFilters(answer);
    drawMatrix(answer);
    gallery.replaceChildren();
    details.replaceChildren();
    say(`${answer.wrong} of ${answer.total} answers are wrong. Choose a cell to see its pictures.`);
  }

  function say(text, isProblem = false) {
    status.textContent = text;
    status.classList.toggle("problem", isProblem);
  }

  function drawFilters({ runs, splits, characters }) {
    const select = (name, label, options) =>
      make("label", {}, `${label} `, make("select", { "data-testid": name,
        onchange: (event) => show({ [name]: event.target.value }) },
        options.map(([value, title]) => make("option", { value, selected: value === (view[name] ?? "") }, title))));
    const bound = (name, label, value) =>
      make("label", {}, `${label} `, make("input", { type: "number", min: 0, max: 100, step: 5, value, "data-testid": name,
        onchange: (event) => show({ [name]: Number(event.target.value) / 100 }) }), " %");
    filters.replaceChildren(
      select("run", "Run", runs.map((run) => [run, run])),
      select("split", "split", splits.map((split) => [split, split.replaceAll("_", " ")])),
      select("character", "character", [["", "all"], ...characters]),
      bound("low", "confidence from", Math.round(100 * (view.low ?? 0))),
      bound("high", "to", Math.round(100 * (view.high ?? 1))),
      select("other", "where it disagrees with", [["", "–"], ...runs.filter((run) => run !== view.run).map((run) => [run, run])]),
    );
  }

  function drawMatrix({ characters, counts }) {
    const cell = (count, row, column) => {
      if (!count) return make("td");
      const total = counts[row].reduce((sum, one) => sum + one, 0);
      const colour = row === column ? "0, 114, 178" : "213, 94, 0";
      const strength = 0.15 + 0.75 * Math.sqrt(count / total);
      const title = `${characters[row][1]} named ${characters[column][1]}: ${count}`;
      return make("td", { style: `background: rgba(${colour}, ${strength})` },
        make("button", { type: "button", title, "aria-label": title, "data-row": row, "data-column": column,
          "data-testid": row === column ? "right-cell" : "wrong-cell", style: strength > 0.55 ? "color: #fff" : "",
          onclick: () => open(characters[row], characters[column]) }, String(count)));
    };
    matrix.replaceChildren(make("table.confusion", { "data-testid": "matrix", style: `--characters: ${characters.length}`, onkeydown: move },
      make("thead", {}, make("tr", {}, make("th"), characters.map(([, title]) => make("th", { scope: "col" }, title)))),
      make("tbody", {}, characters.map(([, title], row) =>
        make("tr", {}, make("th", { scope: "row" }, title), counts[row].map((count, column) => cell(count, row, column)))))));
  }

  /** Arrow keys go to the next picture, or cell that has pictures, in their direction. */
  function move(event) {
    const step = {
      ArrowLeft: ["row", "column", -1], ArrowRight: ["row", "column", 1],
      ArrowUp: ["column", "row", -1], ArrowDown: ["column", "row", 1],
    }[event.key];
    const from = event.target.dataset;
    if (!step || !from.row) return;
    const [line, along, sign] = step;
    const beyond = [...event.currentTarget.querySelectorAll(`[data-${line}="${from[line]}"]`)]
      .filter(({ dataset }) => sign * (dataset[along] - from[along]) > 0);
    if (!beyond.length) return;
    event.preventDefault();
    event.stopPropagation();
    beyond.at(sign > 0 ? 0 : -1).focus();
  }

  async function open(actual, predicted) {
    const asked = ++opened;
    const answer = await ask("cell", { view, actual: actual[0], predicted: predicted[0] });
    if (asked !== opened) return;
    if (answer.problem) return say(answer.problem, true);
    const side = 70;
    details.replaceChildren();
    gallery.replaceChildren(make("div.gallery", { onkeydown: move }, answer.rows.map((row, number) =>
      make("button", { type: "button", "data-testid": "picture", "data-row": 0, "data-column": number, onclick: () => inspect(row) },
        make("span.thumbnail", { style: `background-image: url(${answer.pictures[0]}); background-position: -${number * side}px 0` }),
        percent(answer.confidence[number])))));
    const shown = answer.rows.length < answer.total ? `, the first ${answer.rows.length} are shown` : "";
    say(`${actual[1]} named ${predicted[1]}: ${answer.total}${shown}. Choose a picture.`);
    gallery.querySelector("button")?.focus();
  }

  async function inspect(row) {
    const asked = ++opened;
    const answer = await ask("details", { view, row });
    if (asked !== opened) return;
    if (answer.problem) return say(answer.problem, true);
    const map = make("div", {}, "computing where it looked …");
    details.replaceChildren(
      make("h4", { "data-testid": "path" }, `${answer.path}, labelled ${answer.label}`),
      make("div.columns", {},
        make("img.large", { src: answer.pictures[0], alt: answer.label, "data-testid": "large" }),
        map,
        make("table", {}, make("tbody", { "data-testid": "probabilities" }, answer.top.map(([, name, probability]) =>
          make("tr", {}, make("td", {}, name), make("td", {}, percent(probability))))))),
      answer.others.length ? make("p", { "data-testid": "others" }, "Other runs: ",
        answer.others.map(([run, , name, probability]) => `${run} says ${name} (${percent(probability)})`).join("; "), ".") : "",
      answer.near.length ? make("div", { "data-testid": "near" }, "Near-duplicates in train:", make("div.row", {},
        answer.near.map((label, number) => make("figure", {},
          make("img", { src: answer.pictures[number + 1], alt: "" }), make("figcaption", {}, label)))))
        : make("p", {}, "No near-duplicate in train."),
    );
    // The map takes many answers of a network without a class map; whoever passes by does not wait for it.
    await new Promise((resolve) => setTimeout(resolve, 200));
    if (asked !== opened) return;
    const explained = await ask("map", { view, row });
    map.replaceChildren(explained.problem ?? make("img", { src: explained.pictures[0], alt: "Where the answer comes from",
      "data-testid": "map", width: 200 }));
  }

  show();
}

export default { render };
