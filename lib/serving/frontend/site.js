// The page without a server: a worker answers, with LiteRT.js and the networks that lie beside the page.

import { about } from "./about.js";
import { Page } from "./page.js";
import { Questions } from "./questions.js";

/** Answers the page's questions through a worker, on this device. */
class DeviceWorker {
  about = about;
  keeps = true; // pictures in the browser, if the visitor wants
  privacy =
    "It stays on your device: the network runs in your browser, and nothing is sent anywhere. The list of your " +
    "pictures is in this page alone, unless you choose to keep it in this browser.";
  links = [
    { words: "Licences.", href: "LICENSE.txt" },
    { words: "It runs with LiteRT.js (Apache 2.0).", href: "https://github.com/google-ai-edge/LiteRT" },
  ];

  worker = null;
  questions = new Questions((message, moved) => (this.worker ??= this.started()).postMessage(message, moved));

  started() {
    const worker = new Worker(new URL("worker.js", import.meta.url));
    worker.onmessage = ({ data }) => {
      if ("progress" in data) this.onProgress?.(data.progress);
      else this.questions.settle(data);
    };
    worker.onerror = () => {
      worker.terminate();
      this.worker = null; // the next question starts another one
      this.onProgress?.(null);
      this.questions.giveUp("The recogniser has stopped. Try again, or load the page again.");
    };
    return worker;
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
