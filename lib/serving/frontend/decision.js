// What a network computed → the answer, by the settings that `make site` wrote, as `lib/inference/recogniser.py` has it.

import { find } from "./class_map.js";

/**
 * Decides who is named. The probability is divided among the characters in a picture, so that of all that the map shows
 * counts.
 *
 * @param {object} settings `characters`, their display `names`, `threshold`, `second_threshold` and `confused`.
 * @param {ArrayLike<number>} probabilities In the order of `characters`; what comes after them stands for nobody.
 * @param {object} [classMap] As in `class_map.js`.
 * @returns {object} `character` (null when it declines), `name`, `probability`, `probabilities` (by label), `known`,
 *   `closest` (label), `confused`, and `found`, whose boxes are fractions of the square, or null without a map.
 */
export function decide(settings, probabilities, classMap = null) {
  const { characters, names, threshold, second_threshold: second, confused } = settings;
  const shares = Array.from(probabilities).slice(0, characters.length);
  const label = shares.indexOf(Math.max(...shares));
  const places = classMap ? find(classMap, label, second) : [{ label, box: null }];
  const known = places.reduce((sum, place) => sum + shares[place.label], 0) >= threshold;
  return {
    character: known ? characters[label] : null,
    name: known ? names[label] : null,
    probability: shares[label],
    probabilities: Object.fromEntries(characters.map((character, index) => [character, shares[index]])),
    known,
    closest: characters[label],
    confused: known && confused.includes(characters[label]),
    found: (known ? places : []).map(({ label: one, score, box }, index) => ({
      character: characters[one],
      name: names[one],
      probability: index ? score : shares[label],
      box,
    })),
  };
}
