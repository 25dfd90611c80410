// Draws the page from the widget's output, before Voila's scripts do. It comes after `dropzone.js`, in one module.

/**
 * Gives the keyboard's focus back when Voila moves the page into its shell: a browser takes it from what is moved.
 *
 * @param {HTMLElement} page What will be moved, once, out of the document's body.
 */
function keepFocusWhenMoved(page) {
  let focused = null;
  const moved = new AbortController();
  page.addEventListener("focusin", ({ target }) => (focused = target), moved);
  // Believed a little later: what the move itself takes away has been given back by then.
  const believe = () => (focused = page.contains(document.activeElement) ? document.activeElement : null);
  page.addEventListener("focusout", () => setTimeout(believe), moved);
  const observer = new MutationObserver(() => {
    if (page.parentElement === document.body) return;
    observer.disconnect();
    moved.abort();
    focused?.focus({ preventScroll: true });
  });
  observer.observe(document.body, { childList: true });
}

const ABOUT = "application/vnd.simpsons-recognition.about+json";

for (const output of document.querySelectorAll('script[type="application/vnd.voila.cell-output+json"]')) {
  const about = JSON.parse(output.textContent).data?.[ABOUT];
  if (!about || window.pageAhead) continue;
  const el = document.createElement("div");
  output.closest("[cell-index]").after(el);
  drawAhead(about, el);
  document.getElementById("loading")?.remove();
  const page = document.getElementById("rendered_cells");
  page.style.display = "";
  keepFocusWhenMoved(page);
}
