import assert from "node:assert/strict";
import { test } from "node:test";

import { decide } from "../../lib/serving/frontend/decision.js";
import { mapOf } from "./class_map.test.js";

const RULE = { threshold: 0.5, second_threshold: 1, confused: [] };
const SETTINGS = { characters: ["homer", "marge"], names: ["Homer", "Marge"], ...RULE };

test("the most probable character is named", () => {
  const answer = decide(SETTINGS, [0.3, 0.7]);
  assert.deepEqual([answer.character, answer.name, answer.known, answer.probability], ["marge", "Marge", true, 0.7]);
  assert.deepEqual(answer.probabilities, { homer: 0.3, marge: 0.7 });
  assert.deepEqual(answer.found, [{ character: "marge", name: "Marge", probability: 0.7, box: null }]);
});

test("below the threshold nobody is named, and it says who is closest", () => {
  const answer = decide({ ...SETTINGS, characters: ["homer", "marge", "bart"], names: ["H", "M", "B"] }, [0.3, 0.4, 0.3]);
  assert.deepEqual([answer.character, answer.name, answer.known, answer.closest], [null, null, false, "marge"]);
});

test("what comes after the characters stands for nobody", () => {
  const answer = decide({ ...SETTINGS, threshold: 0.4 }, [0.1, 0.2, 0.7]);
  assert.deepEqual([answer.known, answer.closest, Object.keys(answer.probabilities)], [false, "marge", ["homer", "marge"]]);
});

test("the threshold decides", () => {
  assert.equal(decide({ ...SETTINGS, threshold: 0.2 }, [0.1, 0.2, 0.7]).character, "marge");
});

test("the probabilities of all characters in the picture decide", () => {
  const map = mapOf(2, [0, 1, 1, 0.9], [0, 4, 4, 0], [1, 4, 4, 0.8]);
  const rule = { ...SETTINGS, threshold: 0.75, second_threshold: 0.7 };
  assert.equal(decide(rule, [0.5, 0.3, 0.2], map).known, true);
  assert.equal(decide(rule, [0.5, 0.2, 0.3], map).known, false);
  assert.equal(decide({ ...rule, second_threshold: 0.85 }, [0.5, 0.3, 0.2], map).known, false);
});

test("a weak character is said to be confused sometimes", () => {
  assert.equal(decide({ ...SETTINGS, confused: ["marge"] }, [0.1, 0.9]).confused, true);
  assert.equal(decide({ ...SETTINGS, confused: ["homer"] }, [0.1, 0.9]).confused, false);
});

test("the map places the one who is named, and others elsewhere", () => {
  const map = mapOf(2, [1, 1, 1, 0.9], [0, 4, 4, 0.8]);
  const rule = { ...SETTINGS, second_threshold: 0.7 };
  const [first, second, ...rest] = decide(rule, [0.2, 0.8], map).found;
  assert.deepEqual([first.character, first.probability, second.character, rest], ["marge", 0.8, "homer", []]);
  assert.deepEqual(first.box, [16 / 96, 16 / 96, 32 / 96, 32 / 96]);
  assert.equal(decide({ ...rule, second_threshold: 0.9 }, [0.2, 0.8], map).found.length, 1);
});

test("when nobody is named nobody is found", () => {
  const rule = { ...SETTINGS, threshold: 0.9, second_threshold: 0.95 };
  assert.deepEqual(decide(rule, [0.2, 0.8], mapOf(2, [1, 1, 1, 0.9])).found, []);
});
