// The worker of the static page. A classic one, since LiteRT.js loads its runtime by `importScripts`.
const lost = "The recogniser could not be loaded. Check the connection, then load the page again.";
const recogniser = import("./recogniser.js").catch(() => ({ answer: () => ({ problem: lost, reload: true }) }));

addEventListener("message", async ({ data: { id, ...question } }) => {
  const { answer } = await recogniser;
  postMessage({ id, ...(await answer(question, (progress) => postMessage({ progress }))) });
});
