// The label review: shows one picture, sends each verdict to the kernel at once.

function render({ model, el }) {
  const ask = asker(model, (text) => (root.querySelector("[role=status]") ?? root).replaceChildren(text));
  let place = { list: "random", character: "" };
  let card = {};
  let busy = false;
  let second = false; // whether the next character chosen is a second one
  const root = make("div.study", { tabIndex: 0, "data-testid": "review" });
  el.append(root);

  async function go(question, data = {}) {
    if (busy) return; // a key pressed twice must not decide on two pictures
    busy = true;
    const answer = await ask(question, { ...place, index: card.index, path: card.path, ...data });
    busy = false;
    second = false;
    if (answer.problem && !card.lists) return root.replaceChildren(answer.problem); // nothing was shown before
    if (answer.problem) return draw({ ...card, message: answer.problem });
    card.pictures?.forEach((address) => URL.revokeObjectURL(address));
    draw(answer);
  }

  const decide = (verdict, label = "") => card.path && go("decide", { verdict, label });
  const choose = (label) => decide(second ? "second" : "relabel", label);
  const turn = (step) => go("card", { index: card.index + step });
  const restart = (change) => {
    if (busy) return; // or the verdict that is under way would turn the page of another list
    place = { ...place, ...change };
    go("card", { index: undefined });
  };

  async function merge(event) {
    const [file] = event.target.files;
    if (file) go("merge", { text: await file.text(), name: file.name });
  }

  function draw(next) {
    card = next;
    const button = (text, key, onclick, attributes = {}) =>
      make("button", { type: "button", onclick, ...attributes }, text, key && make("kbd", {}, key));
    const tabs = card.lists.map(([name, title, done, total]) =>
      button(`${title} ${done}/${total}`, "", () => restart({ list: name }), {
        "aria-pressed": String(name === place.list), "data-testid": `list-${name}`,
      }));
    const filter = make("select", { "aria-label": "Only this character", "data-testid": "character",
      onchange: (event) => restart({ character: event.target.value }) },
      make("option", { value: "" }, "All characters"),
      card.characters.map(([name, title]) => make("option", { value: name, selected: name === place.character }, title)));
    // No verdict on `change`: an arrow key on a closed list fires it.
    const others = make("select", { "aria-label": "Another character", "data-testid": "other" },
      make("option", { value: "" }, "Another character …"),
      card.characters.map(([name, title]) => make("option", { value: name }, title)));
    const picture = card.path && make("div", {},
      make("img.large", { src: card.pictures[0], alt: `Labelled ${card.label}` }),
      make("div", { "data-testid": "path" }, card.path));
    const facts = card.path && make("div.answers", {},
      make("div", {}, "Label: ", make("b", { "data-testid": "label" }, card.label)),
      make("div", { "data-testid": "verdict" }, card.verdict ? `Reviewed: ${card.verdict}` : "Not reviewed yet"),
      make("div", {}, second ? "Who is the second character?" : "The network, which never saw this picture, says:"),
      card.answers.length ? card.answers.map(([name, title, probability], number) =>
        button(`${title} ${percent(probability)}`, String(number + 1), () => choose(name), { "data-testid": "answer" }))
        : make("div", {}, `nothing yet (${card.folds[0]} of ${card.folds[1]} folds are finished)`),
      make("div.row", {}, others,
        button("Choose", "", () => others.value && choose(others.value), { "data-testid": "choose" })),
      make("div.row", {},
        button("Keep", "k", () => decide("keep"), { "data-testid": "keep" }),
        button("Exclude", "x", () => decide("exclude"), { "data-testid": "exclude" }),
        button("Second character too", "s", toggleSecond, { "aria-pressed": String(second), "data-testid": "second" }),
        button("Undo", "u", () => go("undo"), { "data-testid": "undo" })));
    const near = card.near?.length ? make("div", {}, "Near-duplicates:", make("div.row", {}, card.near.map((label, number) =>
      make("figure", {}, make("img", { src: card.pictures[number + 1], alt: "" }), make("figcaption", {}, label))))) : null;
    const focused = root.contains(document.activeElement);
    const { testid } = document.activeElement?.dataset ?? {};
    root.replaceChildren(
      make("div.row", {}, tabs, filter),
      make("div.row", {},
        button("Back", "←", () => turn(-1)), button("On", "→", () => turn(1)),
        make("span", { "data-testid": "place" }, card.total ? `${card.index + 1} of ${card.total}` : "This list is empty.")),
      make("div.columns", {}, picture || null, facts || null),
      ...(near ? [near] : []),
      make("div.status", { role: "status", "data-testid": "status" }, card.message ?? ""),
      make("div", { "data-testid": "conclusion" }, card.conclusion),
      make("label.row", {}, "Merge another file of corrections:",
        make("input", { type: "file", accept: ".csv", onchange: merge, "data-testid": "merge" })));
    // A button that is there once keeps the focus. In a list or a field the keys of the review would do nothing.
    const [again, another] = focused && testid ? root.querySelectorAll(`button[data-testid="${testid}"]`) : [];
    if (focused || document.activeElement === document.body) (another ? root : (again ?? root)).focus({ preventScroll: true });
  }

  function toggleSecond() {
    second = !second;
    draw(card);
  }

  root.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(SELECT|INPUT)$/.test(event.target.tagName)) return;
    const number = Number(event.key);
    const keys = {
      k: () => decide("keep"), x: () => decide("exclude"), s: toggleSecond, u: () => go("undo"),
      ArrowLeft: () => turn(-1), ArrowRight: () => turn(1),
    };
    const act = number >= 1 && card.answers?.[number - 1] ? () => choose(card.answers[number - 1][0]) : keys[event.key];
    if (!act) return;
    event.preventDefault();
    event.stopPropagation(); // JupyterLab has commands on the same keys
    act();
  });

  go("card", { index: undefined });
}

export default { render };
