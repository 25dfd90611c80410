/** Says to the visitor what is wrong and what to do. */
export class Problem extends Error {
  constructor(sentence, reload = false) {
    super(sentence);
    this.reload = reload; // whether loading the page again helps
  }
}

/** Gives the sentence of an error; one that is not for visitors goes to the console. */
export function inWords(problem) {
  if (problem instanceof Problem) return problem.message;
  console.error(problem);
  return "The picture cannot be read. Try another picture, or load the page again.";
}
