// A live camera: the name follows the picture.

import { button, fill, make, percent, sized } from "./dom.js";
import { Problem } from "./problem.js";

const STEADY = 3; // frames in a row that must agree before another name is shown

export class Camera {
  constructor(page) {
    this.page = page;
    this.box = make("section.live", { "aria-label": "Live camera", "data-testid": "live", hidden: true });
    this.onVisibility = () => document.hidden && this.stop();
  }

  get isPossible() {
    return Boolean(navigator.mediaDevices?.getUserMedia); // not in an insecure context
  }

  async start() {
    if (this.stream || this.page.about.problem) return;
    this.page.begin();
    try {
      const wanted = { width: { ideal: 640 }, facingMode: { ideal: "environment" } };
      this.stream = await navigator.mediaDevices.getUserMedia({ video: wanted });
    } catch (problem) {
      const isRefused = problem.name === "NotAllowedError";
      this.page.fail(
        new Problem(
          isRefused
            ? "The browser does not let this page use the camera. Allow it beside the page's address, then try again."
            : "No camera can be used. Connect one, or end other programs that use it.",
        ),
      );
      return;
    }
    this.video = make("video", { muted: true, playsinline: true });
    this.video.srcObject = this.stream;
    this.name = make("p.name", { "data-testid": "live-name" }, "Looking …");
    this.share = make("p.share");
    const buttons = make("div.tools", button("Keep this picture", () => this.keep()), button("Stop", () => this.stop(), { id: "stop" }));
    this.box.hidden = false;
    this.box.dataset.frames = 0;
    fill(this.box, this.video, make("div.words", this.name, this.share, buttons));
    document.addEventListener("visibilitychange", this.onVisibility);
    this.page.scrollTo(this.box);
    await this.video.play();
    this.watch(this.stream).catch((problem) => {
      this.stop();
      this.page.fail(problem);
    });
  }

  stop() {
    document.removeEventListener("visibilitychange", this.onVisibility);
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.stream = null;
    this.box.hidden = true;
    fill(this.box);
  }

  /** Asks about one frame after the other; the next one when the last is answered. */
  async watch(stream) {
    const [key] = this.page.chosen;
    let [last, agreed] = ["", 0];
    while (this.stream === stream) {
      const frame = await this.frame();
      const answer = (await this.page.transport.recognise(frame, [key]))[key];
      frame.source.close();
      if (this.stream !== stream) return;
      if (answer.problem) throw new Problem(answer.problem);
      const name = answer.known ? answer.name : "Nobody I know";
      agreed = name === last ? agreed + 1 : 1;
      last = name;
      this.box.dataset.frames = Number(this.box.dataset.frames) + 1;
      if (agreed < STEADY) continue;
      this.name.textContent = name;
      sized(this.name);
      this.name.dataset.character = answer.character ?? "";
      this.share.textContent = answer.known ? percent(answer.probability) : "";
    }
  }

  async frame() {
    if (!this.video.videoWidth) await new Promise((resolve) => (this.video.onloadeddata = resolve));
    const source = await createImageBitmap(this.video);
    return { source, width: source.width, height: source.height };
  }

  async keep() {
    const { source, width, height } = await this.frame();
    const canvas = make("canvas", { width, height });
    canvas.getContext("2d").drawImage(source, 0, 0);
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.95));
    await this.page.take([new File([blob], "camera.jpg", { type: "image/jpeg" })]);
  }
}
