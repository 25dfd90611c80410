// Questions and answers by messages, with numbers: what both transports share.

import { Problem } from "./problem.js";

/**
 * Asks by messages and waits for the answers.
 *
 * @param {(message: object, extra: any) => void} send Sends a message, which has an `id`.
 */
export class Questions {
  constructor(send) {
    this.send = send;
    this.last = 0;
    this.waiting = new Map();
  }

  /**
   * @param {object} content What is asked.
   * @param {any} extra What travels beside it.
   * @param {number} patience Milliseconds after which an answer counts as lost.
   * @returns {Promise<object>} The answer.
   * @throws {Problem} There is none.
   */
  ask(content, extra, patience = Infinity) {
    return new Promise((resolve, reject) => {
      const id = ++this.last;
      const lost = () => this.settle({ id, problem: "No answer has come. The connection may be lost.", reload: true });
      const timer = Number.isFinite(patience) ? setTimeout(lost, patience) : null;
      this.waiting.set(id, { resolve, reject, timer });
      try {
        this.send({ ...content, id }, extra);
      } catch {
        lost();
      }
    });
  }

  /** Takes an answer, `{ id, … }` or `{ id, problem }`. */
  settle({ id, problem, reload, ...answer }) {
    const question = this.waiting.get(id);
    if (!question) return;
    clearTimeout(question.timer);
    this.waiting.delete(id);
    if (problem) question.reject(new Problem(problem, reload));
    else question.resolve(answer);
  }

  /** Gives every question that waits the same problem. */
  giveUp(problem) {
    for (const id of [...this.waiting.keys()]) this.settle({ id, problem, reload: true });
  }
}
