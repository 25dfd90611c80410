// The widget: the page under Voila and JupyterLab, whose questions the kernel answers (`lib/serving/widget.py`).

import { OPENED_SIDE, pictureOf } from "./decode.js";
import { LARGEST_SIDE, pixelsOf } from "./network.js";
import { Page } from "./page.js";
import { copyOf } from "./pictures.js";
import { Problem } from "./problem.js";
import { Questions } from "./questions.js";
import { framing, surplus } from "./square.js";

const PATIENCE_MS = 20_000; // for an answer
const PATIENCE_AFAR_MS = 45_000; // for an address: 10 s at most, and others may have to be read before
const KEPT_TYPES = ["image/jpeg", "image/png"]; // which travel as they are when they are small; others may move
const KEPT_SIDE = 512; // pixels of the longest side up to which a picture is small; networks see far fewer
const KEPT_BYTES = 1_000_000; // size of the file up to which it is small
const ENDED = "The server has ended this page. Download what you want to keep, then load the page again.";

/** Answers the page's questions through the widget's kernel. */
class Kernel {
  keeps = false; // pictures in the browser
  privacy =
    "Your browser makes it small and sends it to this server, which forgets it as soon as it has answered: nothing is " +
    "stored. The list of your pictures and what you say of them are in this page alone, and gone when you close it. An " +
    "address is opened by the server, not by your browser.";
  links = []; // beside those of the networks

  constructor(model) {
    this.model = model;
    this.questions = new Questions((message, buffers) => model.send(message, undefined, buffers));
    this.listen = (message, buffers) => this.questions.settle({ ...message, buffers });
    this.giveUp = () => this.questions.giveUp(ENDED);
    model.on("msg:custom", this.listen);
    window.addEventListener("kernelended", this.giveUp);
  }

  get about() {
    return this.model.get("about");
  }

  onAbout(callback) {
    this.model.on("change:about", callback);
  }

  async recognise(picture, networks) {
    const { answers } = await this.ask({ ask: "recognise", networks }, [await this.small(picture)]);
    return answers;
  }

  async explain(picture, network, character) {
    const { buffers, ...facts } = await this.ask({ ask: "explain", network, character }, [await this.small(picture)]);
    return { ...facts, veil: new Blob(buffers) };
  }

  async fetch(url) {
    return new Blob((await this.ask({ ask: "fetch", url }, [], PATIENCE_AFAR_MS)).buffers);
  }

  async look() {
    await this.ask({ ask: "look" }, []);
  }

  async ask(content, buffers, patience = PATIENCE_MS) {
    if (window.kernelEnded) throw new Problem(ENDED, true);
    return this.questions.ask(content, buffers, patience);
  }

  /** Makes a picture small enough to travel; of one with a wide border, so that the part inside is not too small. */
  async small(picture) {
    const { source, width, height } = picture;
    const [longest, shortest] = [Math.max(width, height), Math.min(width, height)];
    const isSmall = longest <= KEPT_SIDE && source.size <= KEPT_BYTES;
    if (isSmall && KEPT_TYPES.includes(source.type)) return source.arrayBuffer();
    const preview = picture.preview && pictureOf(picture.preview);
    const pixels = await pixelsOf(preview ?? picture, OPENED_SIDE);
    const larger = surplus(pixels, framing(pixels, 1, "bounded"));
    const least = Math.ceil((this.about.limits.side * longest) / shortest);
    const wanted = Math.max(Math.min(LARGEST_SIDE, Math.ceil(larger * KEPT_SIDE)), least);
    const copy = await copyOf(preview && wanted <= OPENED_SIDE ? preview : picture, wanted);
    return copy.source.arrayBuffer();
  }

  leave() {
    this.model.off("msg:custom", this.listen);
    window.removeEventListener("kernelended", this.giveUp);
  }
}

function render({ model, el }) {
  const kernel = new Kernel(model);
  // Under Voila the page is ours; in JupyterLab others want what is dropped and pasted elsewhere.
  const page = new Page(kernel, el, document.body.dataset.voila ? document : el);
  kernel.look().catch((problem) => page.fail(problem)); // the page may have been made before the last training
  return () => {
    page.leave();
    kernel.leave();
  };
}

export default { render };
