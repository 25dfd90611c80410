// All answers as CSV. Its first columns are those of the label review's `corrections.csv`, so that the review can import
// the file.

const COLUMNS = ["path", "sha256", "label", "verdict", "who", "when", "network", "answer", "name", "probability"];

/** Writes a field; what a spreadsheet would take for a formula gets an apostrophe before it. */
export function field(value) {
  const text = String(value).replace(/\s+/g, " ");
  return `"${(/^ ?[=+\-@]/.test(text) ? `'${text}` : text).replaceAll('"', '""')}"`;
}

/** Says what the visitor's word means for the label that the network gave. */
export function verdictOf(truth, answer) {
  if (!truth) return "";
  if (!truth.label) return "exclude"; // somebody whom no network knows, or nobody
  return truth.label === answer.character ? "keep" : "relabel";
}

/** Gives a row for each picture and network. */
export function table(page) {
  const rows = [COLUMNS];
  for (const { name: path, sha256, truth, when, answers } of [...page.pictures, ...page.forgotten]) {
    for (const [key, answer] of Object.entries(answers)) {
      if (answer.problem) continue;
      const network = page.nameOf(key);
      const label = truth ? truth.label || truth.name : "";
      const given = [network, answer.character ?? "", answer.name ?? "", answer.probability.toFixed(4)];
      rows.push([path, sha256, label, verdictOf(truth, answer), truth ? "page" : "", when, ...given]);
    }
  }
  return rows.map((row) => `${row.map(field).join(",")}\r\n`).join("");
}
