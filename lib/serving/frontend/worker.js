// The worker of the static page. A classic one, since LiteRT.js loads its runtime by `importScripts`.
const recogniser = Promise.all([import("./recogniser.js"), import("./problem.js")]);

addEventListener("message", async ({ data: { id, ...question } }) => {
  const [{ answer }, { inWords }] = await recogniser;
  try {
    postMessage({ id, ...(await answer(question, (progress) => postMessage({ progress }))) });
  } catch (problem) {
    postMessage({ id, problem: inWords(problem), reload: problem.reload });
  }
});
