// Elements and numbers. Whatever comes from a visitor or from a network becomes text nodes, never markup.

/**
 * Makes an element: `make("p.soft", { id: "x", onclick: listener }, "text", child, …)`.
 *
 * Attributes may be left out. `true` sets one without a value, `false` and null set none; children that are null or
 * empty are passed over.
 */
export function make(kind, ...rest) {
  const [tag, ...classes] = kind.split(".");
  const hasAttributes = rest[0] != null && Object.getPrototypeOf(rest[0]) === Object.prototype;
  const attributes = hasAttributes ? rest.shift() : {};
  const isDrawing = ["svg", "rect"].includes(tag);
  const element = isDrawing ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  element.classList.add(...classes);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value != null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...rest.flat(2).filter(Boolean));
  return element;
}

/** Says how large a name may be: by its longest word, which must not break. */
export function sized(element) {
  const words = element.textContent.split(/\s+/);
  element.style.setProperty("--letters", Math.max(...words.map((word) => word.length)));
  return element;
}

/** Says where the long words of a name may break, with a hyphen: near the middle, between a vowel and a consonant. */
export const hyphenated = (name) => name.replace(/(\p{L}{6,}?[aeiou])(?=[^\P{L}aeiou]\p{L}{5,})/giu, "$1\u00ad");

/** Makes a button. */
export const button = (label, onclick, attributes = {}) => make("button.button", { type: "button", onclick, ...attributes }, label);

/** Replaces what is in an element; whoever had the keyboard's focus keeps it, and the place in a text. */
export function fill(element, ...children) {
  const { id, selectionStart, selectionEnd } = document.activeElement ?? {};
  const focused = element.contains(document.activeElement) ? id : "";
  element.replaceChildren(...children.flat(2).filter(Boolean));
  const again = focused && document.getElementById(focused);
  again?.focus?.();
  if (again && selectionStart != null) again.setSelectionRange(selectionStart, selectionEnd);
}

/** Writes a probability as people read it; its space breaks no line. */
export function percent(probability) {
  if (probability >= 0.995) return "over 99\u00a0%";
  if (probability < 0.005) return "under 1\u00a0%";
  return `${Math.round(100 * probability)}\u00a0%`;
}

/** The same where there is little room. */
export const shortPercent = (probability) => percent(probability).replace("over ", ">").replace("under ", "<");

/** Lets the visitor save a file. */
export function save(contents, type, name) {
  const url = URL.createObjectURL(new Blob([contents], { type }));
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
