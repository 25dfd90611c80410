// Marks a part of a picture, by pointer or by keys, to look at it alone.

import { make } from "./dom.js";
import { Problem } from "./problem.js";

const SMALLEST = 0.08; // of the picture's side
const STEP = 0.04; // of the picture's side, for an arrow key

/**
 * Gives a surface over the picture: drag a box; or arrow keys move one, with Shift they size it, and Enter takes it.
 *
 * @param {string} button Id of the button that gets the keyboard's focus back.
 */
export function markingView(page, entry, button) {
  const box = (entry.part ??= [0.25, 0.25, 0.75, 0.75]);
  const frame = make("div.part");
  const surface = make(
    "div.marking",
    {
      id: "marking",
      tabindex: 0,
      role: "application",
      "aria-label": "Part to look at. Arrow keys move it, with Shift they change its size, Enter looks, Escape ends.",
    },
    frame,
  );
  const draw = () => {
    const [left, top, right, bottom] = box;
    for (const [side, value] of Object.entries({ left, top, right: 1 - right, bottom: 1 - bottom })) {
      frame.style[side] = `${100 * value}%`;
    }
  };
  const end = () => {
    entry.marking = null;
    page.draw();
    document.getElementById(button)?.focus();
  };
  const done = () => {
    if (Math.min(box[2] - box[0], box[3] - box[1]) < SMALLEST) {
      return page.fail(new Problem("This part is too small. Drag a larger one."));
    }
    end();
    page.answerBox.tabIndex = -1;
    page.answerBox.focus(); // the button will be gone, and the answer comes here
    page.takePart(entry, [...box]);
  };
  const place = ({ clientX, clientY }) => {
    const { left, top, width, height } = surface.getBoundingClientRect();
    return [(clientX - left) / width, (clientY - top) / height].map((share) => Math.min(1, Math.max(0, share)));
  };
  let start = null;
  let hasMoved = false;
  surface.onpointerdown = (event) => {
    start = place(event);
    hasMoved = false;
    surface.setPointerCapture(event.pointerId);
    event.preventDefault();
  };
  surface.onpointermove = (event) => {
    if (!start) return;
    hasMoved = true;
    const end = place(event);
    box.splice(0, 4, ...[0, 1].map((axis) => Math.min(start[axis], end[axis])), ...[0, 1].map((axis) => Math.max(start[axis], end[axis])));
    draw();
  };
  surface.onpointercancel = () => (start = null);
  surface.onpointerup = () => {
    start = null;
    if (hasMoved) done();
  };
  surface.onkeydown = (event) => {
    const direction = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [1, -1], ArrowDown: [1, 1] }[event.key];
    if (event.key === "Enter") {
      event.preventDefault(); // or the button that gets the focus would be pressed by it
      done();
    }
    if (event.key === "Escape") end();
    if (!direction) return;
    event.preventDefault();
    const [axis, sign] = direction;
    const [least, most] = [event.shiftKey ? SMALLEST - (box[axis + 2] - box[axis]) : -box[axis], 1 - box[axis + 2]];
    const change = Math.min(most, Math.max(least, sign * STEP));
    if (!event.shiftKey) box[axis] += change;
    box[axis + 2] += change;
    draw();
  };
  draw();
  return surface;
}
