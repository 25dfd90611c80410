// The page without a server: a worker answers, with LiteRT.js and the networks that lie beside the page.

import { about } from "./about.js";
import { Page } from "./page.js";
import { Questions } from "./questions.js";

/** Answers the page's questions through a worker, on this device. */
class DeviceWorker {
  about = about;

  constructor() {
    this.worker = new Worker(new URL("worker.js", import.meta.url));
    this.questions = new Questions((message, moved) => this.worker.postMessage(message, moved));
    this.worker.onmessage = ({ data }) => {
      if ("progress" in data) this.onProgress?.(data.progress);
      else this.questions.settle(data);
    };
    this.worker.onerror = () => this.questions.giveUp("The recogniser has stopped. Load the page again.");
  }

  async recognise(picture, networks) {
    const moved = [picture.source, picture.preview].filter((one) => one instanceof ImageBitmap);
    return (await this.questions.ask({ ask: "recognise", picture, networks }, moved)).answers;
  }

  explain(picture, network, character) {
    return this.questions.ask({ ask: "explain", picture, network, character });
  }

  look() {
    return this.questions.ask({ ask: "look" });
  }
}

const device = new DeviceWorker();
const page = new Page(device, document.getElementById("page"), document);
device
  .look()
  .catch((problem) => page.fail(problem))
  // Afterwards, so that the copy for visits without a network does not slow down the first one.
  .then(() => navigator.serviceWorker?.register(new URL("service_worker.js", import.meta.url)))
  .catch(() => {}); // a browser may forbid it; the page works all the same
