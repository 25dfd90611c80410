// What the page says of itself.

import { make, percent } from "./dom.js";
import { tested } from "./networks_view.js";

function section(id, title, ...children) {
  return make("section", { "aria-labelledby": id }, make("h2", { id }, title), children);
}

const list = (sentences) => make("ul", sentences.filter(Boolean).map((one) => make("li", one)));

export function aboutView(page) {
  const { about } = page;
  const network = page.networkOf(page.chosen[0]);
  if (!network) return [];
  const { calibrated, characters, declines, threshold } = network;
  const can = [
    `It knows ${characters.length} ${about.subject}. ` +
      (declines
        ? "Of most pictures that show no character at all it says so. Another character often gets one of these names."
        : `It was not trained on pictures without them: below ${percent(threshold)} it says that it recognises nobody, but of a cat or of yourself it may be wrongly sure.`),
    "It does best where one character fills a good part of the picture. " +
      (declines
        ? "Where it sees several, it names each, with the sum of their probabilities."
        : "For several figures, look at a part."),
    `Tested: ${tested(network.tested)}. On pictures of another kind it is right less often.`,
  ];
  const how = [
    "A small convolutional network gives a probability to each character; below a threshold the page names nobody.",
    calibrated
      ? "The probabilities are calibrated: of the answers with 80 %, about 80 of 100 are right, on pictures like those it was tested on. On others it may be too sure."
      : "The probabilities of this network are not calibrated: they say how sure it is, not how often it is right.",
    "“What mattered?” shows the network's class map where it has one. Otherwise parts of the picture are covered in " +
      "turn, and where the probability falls most is bright (occlusion sensitivity).",
  ];
  return [
    section("can-title", "What it can and cannot do", list(can)),
    section("kept-title", "What happens to your picture", make("p", page.transport.privacy)),
    section("how-title", "How it works", list(how)),
    section("terms-title", "Terms and sources", make("p", ...terms([...about.links, ...page.transport.links]))),
  ];
}

/** The licence, with a link where there is something to link to. */
function terms(links) {
  return links.flatMap(({ words, href }) => [href ? make("a", { href }, words) : words, " "]);
}
