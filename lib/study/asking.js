// What the widgets of the study share: questions to the kernel, and elements.

/** Makes an element: make("button.primary", { onclick }, "Keep", …). */
function make(what, attributes = {}, ...children) {
  const [tag, ...classes] = what.split(".");
  const element = document.createElement(tag);
  element.className = classes.join(" ");
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on") || name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Gives a function that asks the kernel and resolves to its answer; `pictures` has an address for each picture. */
function asker(model, say = () => {}) {
  const waiting = new Map();
  const late = new Set(); // what has been waited for so long that it was said
  let number = 0;
  model.on("msg:custom", (answer, buffers) => {
    const resolve = waiting.get(answer.id);
    waiting.delete(answer.id);
    if (late.delete(answer.id)) say("");
    const pictures = (buffers ?? []).map((bytes) => URL.createObjectURL(new Blob([bytes], { type: "image/jpeg" })));
    resolve?.({ ...answer, pictures });
  });
  return (ask, question = {}) =>
    new Promise((resolve) => {
      number += 1;
      waiting.set(number, resolve);
      model.send({ ...question, id: number, ask });
      const id = number;
      setTimeout(() => {
        if (!waiting.has(id)) return;
        late.add(id);
        say("No answer yet. Does the command that serves this page still run?");
      }, 5000);
    });
}

const percent = (probability) => `${Math.round(100 * probability)} %`;
