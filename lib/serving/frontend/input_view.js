// How pictures come in: choosing, dropping, pasting, photographing, addresses.

import { button, make } from "./dom.js";
import { Problem } from "./problem.js";

export function inputView(page) {
  const chooser = (label, attributes) => {
    const onchange = ({ target }) => {
      page.take([...target.files]);
      target.value = ""; // so that the same file can be chosen again
    };
    const input = make("input.unseen", { type: "file", accept: "image/*", onchange, ...attributes });
    return make("label.button", input, label);
  };
  const choose = chooser("Choose pictures", { id: "choose", multiple: true });
  choose.classList.add("main");
  const photo = chooser("Take a photo", { id: "photo", capture: "environment" });
  photo.classList.add("by-hand");
  const camera = page.camera.isPossible && button("Live camera", () => page.camera.start(), { id: "camera" });
  return make(
    "div.input",
    make(
      "div.zone",
      { "data-testid": "drop-zone" },
      make("div.frame", { "aria-hidden": "true" }),
      make("p.call.by-mouse", "Drop pictures here"),
      make("p.hint.by-mouse", "or paste them from the clipboard, or"),
      make("div.tools", choose, photo, camera),
    ),
    page.transport.fetch && addressForm(page),
  );
}

function addressForm(page) {
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
  const submit = make("button.button", { type: "submit" }, "Read it");
  const onsubmit = async (event) => {
    event.preventDefault();
    const text = address.value.trim();
    if (!text) return address.focus();
    submit.textContent = "Reading …"; // which may take ten seconds
    const isRead = await page.takeAddress(text);
    submit.textContent = "Read it";
    if (isRead && address.value.trim() === text) address.value = "";
  };
  return make(
    "form.address",
    { onsubmit },
    make("label", { for: "address" }, "Or the address of a picture on the web"),
    make("div.row", address, submit),
  );
}

/** Takes what was dropped or pasted: files, else an address. */
function takeTransfer(page, data) {
  if (page.about.problem) return;
  const text = (data.getData("text/uri-list") || data.getData("text/plain") || "").trim().split(/\s/)[0];
  if (data.files.length) page.take(data.files);
  else if (/^https?:/i.test(text) && page.transport.fetch) page.takeAddress(text);
  else {
    page.begin();
    page.fail(new Problem("There was no picture in it. Save the picture as a file, and drop or choose that."));
  }
}

/** Listens for what is dropped and pasted anywhere on a surface; gives a function that ends it. */
export function listenForPictures(page, surface) {
  let depth = 0; // of elements that what is dragged has entered
  const hover = (change) => {
    depth = Math.max(0, depth + change);
    page.el.classList.toggle("over", depth > 0 && !page.about.problem);
  };
  const listeners = {
    // A picture of this page that the mouse moves while it clicks would be dropped as one that nobody can read.
    dragstart: (event) => event.target.matches?.("img") && event.preventDefault(),
    dragenter(event) {
      event.preventDefault();
      hover(1);
    },
    dragover: (event) => event.preventDefault(),
    dragleave: () => hover(-1),
    drop(event) {
      hover(-depth);
      if (event.target.matches?.("input, textarea") && !event.dataTransfer.files.length) return;
      event.preventDefault();
      takeTransfer(page, event.dataTransfer);
    },
    paste(event) {
      if (event.target.matches?.("input, textarea") && !event.clipboardData.files.length) return;
      event.preventDefault();
      takeTransfer(page, event.clipboardData);
    },
  };
  const ended = new AbortController();
  for (const [name, listener] of Object.entries(listeners)) surface.addEventListener(name, listener, ended);
  return () => ended.abort();
}
