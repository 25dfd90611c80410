// Draws the page from the widget's output, before Voila's scripts do. It comes after `dropzone.js`, in one module.

const ABOUT = "application/vnd.simpsons-recognition.about+json";

for (const output of document.querySelectorAll('script[type="application/vnd.voila.cell-output+json"]')) {
  const about = JSON.parse(output.textContent).data?.[ABOUT];
  if (!about || window.pageAhead) continue;
  const el = document.createElement("div");
  output.closest("[cell-index]").after(el);
  drawAhead(about, el);
  document.getElementById("loading")?.remove();
  document.getElementById("rendered_cells").style.display = "";
}
