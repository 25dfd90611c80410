// A live camera: the name follows the picture.

import { names, together } from "./answer_view.js";
import { button, fill, make, percent, sized } from "./dom.js";
import { copyOf } from "./pictures.js";
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
    if (this.isOn || this.page.about.problem) return;
    this.isOn = true; // from now on, since the browser asks the visitor first
    this.page.begin();
    try {
      const wanted = { width: { ideal: 640 }, facingMode: { ideal: "environment" } };
      this.stream = await navigator.mediaDevices.getUserMedia({ video: wanted });
    } catch (problem) {
      this.isOn = false;
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
    if (!this.isOn || document.hidden) return this.stop(); // the visitor has left meanwhile
    for (const track of this.stream.getTracks()) track.onended = () => this.stop(); // unplugged, or taken back
    document.addEventListener("visibilitychange", this.onVisibility);
    this.show();
    const { stream } = this;
    await this.watch(stream).catch((problem) => {
      if (this.stream !== stream) return; // a video that was stopped gives no frame
      this.stop();
      this.page.fail(problem);
    });
  }

  show() {
    this.video = make("video", { muted: true, playsinline: true });
    this.video.srcObject = this.stream;
    this.name = make("p.name", { "data-testid": "live-name", "aria-live": "polite" }, "Looking …");
    this.share = make("p.share");
    const buttons = make("div.tools", button("Keep this picture", () => this.keep()), button("Stop", () => this.stop(), { id: "stop" }));
    this.box.hidden = false;
    this.box.dataset.frames = 0;
    fill(this.box, this.video, make("div.words", this.name, this.share, buttons));
    this.page.scrollTo(this.box);
  }

  stop() {
    this.isOn = false;
    document.removeEventListener("visibilitychange", this.onVisibility);
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.stream = null;
    if (this.box.contains(document.activeElement)) document.getElementById("camera").focus();
    this.box.hidden = true;
    fill(this.box);
  }

  /** Asks about one frame after the other; the next one when the last is answered. */
  async watch(stream) {
    await this.video.play();
    let [last, agreed] = ["", 0];
    while (this.stream === stream) {
      const [key] = this.page.chosen;
      const frame = await this.frame();
      const answer = (await this.page.transport.recognise(frame, [key]))[key];
      frame.source.close();
      if (this.stream !== stream) return;
      if (answer.problem) throw new Problem(answer.problem);
      const name = answer.known ? names(answer) : "Nobody I know";
      agreed = name === last ? agreed + 1 : 1;
      last = name;
      this.box.dataset.frames = Number(this.box.dataset.frames) + 1;
      if (agreed < STEADY) continue;
      if (this.name.textContent !== name) this.name.textContent = name; // said aloud when it changes
      sized(this.name);
      this.share.textContent = answer.known ? percent(together(answer)) : "";
    }
  }

  async frame() {
    if (!this.video.videoWidth) await new Promise((resolve) => (this.video.onloadeddata = resolve));
    const source = await createImageBitmap(this.video);
    return { source, width: source.width, height: source.height };
  }

  keep() {
    return this.page.takeOne("camera.jpg", async () => {
      const frame = await this.frame();
      return (await copyOf(frame, Math.max(frame.width, frame.height))).source;
    });
  }
}
