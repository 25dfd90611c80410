// What a network computed → the answer, by the rule in the metadata of its file, as `lib/inference/decision.py` has it.

import { boxOf, cellsOf, find, highest, overlap } from "./class_map.js";

const DEFAULT_THRESHOLD = 0.5; // of files from before the rule
const SAME_FIGURE = 0.5;
const WHOLE = [0, 0, 1, 1];

// From the probabilities of the known characters to how sure it is that one of them is there.
const SCORES = {
  largest_probability: (known) => Math.max(...known),
  known_probability: (known) => known.reduce((sum, one) => sum + one, 0),
};

/**
 * Decides who is named.
 *
 * @param {object} metadata Of the model file: `characters`, and where the network was trained for it `nobody`,
 *   `threshold`, `score`, `map_threshold`, `second_threshold` and `confused`.
 * @param {ArrayLike<number>} probabilities In the order of `characters`; what comes after them stands for nobody.
 * @param {object} [classMap] As in `class_map.js`.
 * @returns {object} `character` (null when it declines), `name`, `probability`, `probabilities` (by label), `known`,
 *   `closest` (label), `confused`, and `found`, whose boxes are fractions of the square.
 */
export function decide(metadata, probabilities, classMap = null) {
  const { characters, names, threshold = DEFAULT_THRESHOLD, score = "largest_probability", confused = [] } = metadata;
  const known = Array.from(probabilities).slice(0, characters.length);
  const label = known.indexOf(Math.max(...known));
  const isKnown = SCORES[score](known) >= threshold;
  const found = isKnown ? everyone(metadata, label, known[label], classMap) : [];
  return {
    character: isKnown ? characters[label] : null,
    name: isKnown ? names[label] : null,
    probability: known[label],
    probabilities: Object.fromEntries(characters.map((character, index) => [character, known[index]])),
    known: isKnown,
    closest: characters[label],
    confused: isKnown && confused.includes(characters[label]),
    found: found.map(({ label: one, score: probability, box }) => ({
      character: characters[one],
      name: names[one],
      probability,
      box,
    })),
  };
}

/** Lists the one that is named, and others that the map shows elsewhere. */
function everyone({ map_threshold: place = 0, second_threshold: second = Infinity }, label, probability, classMap) {
  if (!classMap) return [];
  const isPlaced = highest(classMap)[label] >= place;
  const first = { label, score: probability, box: isPlaced ? boxOf(cellsOf(classMap, label)) : WHOLE };
  const others = isPlaced ? find(classMap, second) : [];
  return [first, ...others.filter((other) => other.label !== label && overlap(other.box, first.box) <= SAME_FIGURE)];
}
