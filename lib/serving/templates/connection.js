// Says so when the server cannot be reached or has ended this page's kernel; Voila itself shows nothing then.
(() => {
  const EVERY_MS = 5000;
  const { baseUrl, kernelId } = JSON.parse(document.getElementById("jupyter-config-data").textContent);
  const banner = document.getElementById("connection");
  const messages = {
    lost: "The connection to the server is lost. Trying again …",
    ended: "This page was idle for long, or the server was started anew, and it no longer answers. Download what you " +
      'want to keep, then <a href="">load the page again</a>.',
  };
  let shown = "";

  function show(state) {
    if (state === shown) return;
    shown = state;
    banner.innerHTML = messages[state] ?? "";
    banner.hidden = !messages[state];
    if (state !== "ended") return;
    window.kernelEnded = true; // so that nobody waits for an answer
    window.dispatchEvent(new Event("kernelended"));
  }

  async function check() {
    if (shown === "ended") return;
    try {
      const answer = await fetch(`${baseUrl}api/kernels/${kernelId}`, { cache: "no-store" });
      show(answer.ok ? "" : answer.status < 500 ? "ended" : "lost");
    } catch {
      show("lost");
    }
  }

  setInterval(check, EVERY_MS);
  for (const event of ["online", "offline"]) window.addEventListener(event, check);
  document.addEventListener("visibilitychange", () => document.hidden || check());
})();
