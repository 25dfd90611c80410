import assert from "node:assert/strict";
import { test } from "node:test";

import { names } from "../../lib/serving/frontend/answer_view.js";
import { hyphenated, percent, shortPercent } from "../../lib/serving/frontend/dom.js";
import { tested } from "../../lib/serving/frontend/networks_view.js";
import { Page } from "../../lib/serving/frontend/page.js";
import { declaredSize, sha256, whyNot } from "../../lib/serving/frontend/pictures.js";
import { Problem, inWords } from "../../lib/serving/frontend/problem.js";
import { Questions } from "../../lib/serving/frontend/questions.js";
import { field, table, verdictOf } from "../../lib/serving/frontend/table.js";
import { tries } from "../../lib/serving/frontend/wall_view.js";

test("a long name breaks with a hyphen, a shorter one nowhere", () => {
  assert.equal(hyphenated("Apu Nahasapeemapetilon"), "Apu Nahasapee\u00admapetilon");
  assert.equal(hyphenated("Groundskeeper Willie"), "Groundskeeper Willie");
});

test("percentages say nothing that they do not know", () => {
  assert.deepEqual([0.2345, 0.996, 0.001].map(percent), ["23\u00a0%", "over 99\u00a0%", "under 1\u00a0%"]);
  assert.equal(shortPercent(0.996), ">99\u00a0%");
});

test("characters are listed as people list them", () => {
  const found = ["Homer", "Marge", "Bart"].map((name) => ({ character: name, name }));
  const listed = [1, 2, 3].map((number) => names({ ...found[0], found: found.slice(0, number) }));
  assert.deepEqual(listed, ["Homer", "Homer and Marge", "Homer, Marge and Bart"]);
});

test("a score says on what it was measured, and on how few pictures", () => {
  assert.equal(tested({ accuracy: 0.977, pictures: 2385, kind: "frames" }), "right on 98\u00a0% of test frames");
  assert.equal(tested({ accuracy: 0.88, pictures: 90, kind: "drawings" }), "right on 88\u00a0% of 90 test drawings");
  assert.equal(tested({ accuracy: null, pictures: null, kind: "frames" }), "not tested");
});

test("only drawings of characters that the network knows are offered", () => {
  const about = { drawings: [{ character: "bart" }, { character: "homer" }] };
  const network = { characters: [["homer", "Homer"]] };
  assert.deepEqual(tries({ about, chosen: ["one"], networkOf: () => network }), [{ character: "homer" }]);
  assert.equal(tries({ about, chosen: [], networkOf: () => undefined }).length, 2);
});

test("a HEIC picture gets a message that says how to convert it", async () => {
  const heic = new Blob([Uint8Array.from([0, 0, 0, 24]), "ftypheic", new Uint8Array(20)]);
  assert.match(await whyNot(heic), /HEIC.*JPEG/);
  assert.match(await whyNot(new Blob([Uint8Array.from([255, 216, 255, 0])])), /damaged/);
  assert.match(await whyNot(new Blob(["notes"])), /not a picture/);
});

test("the size of a picture that no browser opens is read from its header", async () => {
  const png = new DataView(new ArrayBuffer(26));
  png.setUint32(0, 0x89504e47);
  png.setUint32(16, 30000);
  png.setUint32(20, 20000);
  assert.deepEqual(await declaredSize(new Blob([png])), [30000, 20000]);
  assert.equal(await declaredSize(new Blob(["notes, longer than a header is"])), null);
});

test("what only begins like a picture is none", async () => {
  const bmw = new Blob(["BMW is a maker of cars, as everybody knows."]);
  assert.equal(await declaredSize(bmw), null);
  assert.match(await whyNot(bmw), /not a picture/);
  assert.match(await whyNot(new Blob(["RIFF0000WAVEfmt and so on and on"])), /not a picture/);
  assert.match(await whyNot(new Blob(["0000ftypavif and so on and on and on"])), /damaged/);
});

test("an answer comes back to its question", async () => {
  const sent = [];
  const questions = new Questions((message) => sent.push(message));
  const [first, second] = [questions.ask({ ask: "a" }), questions.ask({ ask: "b" })];
  questions.settle({ id: sent[1].id, value: 2 });
  questions.settle({ id: sent[0].id, problem: "no" });
  assert.deepEqual(await second, { value: 2 });
  await assert.rejects(first, new Problem("no"));
});

test("an answer that does not come is lost, and a connection that ended answers all", async () => {
  const questions = new Questions(() => {});
  await assert.rejects(questions.ask({}, null, 5), /connection/);
  const asked = questions.ask({});
  questions.giveUp("The end.");
  await assert.rejects(asked, /The end/);
});

test("only what is meant for visitors is shown to them", (context) => {
  context.mock.method(console, "error", () => {});
  assert.equal(inWords(new Problem("Too large.")), "Too large.");
  assert.doesNotMatch(inWords(new TypeError("x is undefined")), /undefined/);
});

test("a field cannot become a formula", () => {
  assert.equal(field('=HYPERLINK("x")'), `"'=HYPERLINK(""x"")"`);
  assert.equal(field("a\nb"), '"a b"');
});

test("what a visitor says becomes a verdict of the label review", () => {
  const answer = { character: "homer" };
  assert.equal(verdictOf(null, answer), "");
  assert.equal(verdictOf({ label: "homer", name: "Homer" }, answer), "keep");
  assert.equal(verdictOf({ label: "marge", name: "Marge" }, answer), "relabel");
  assert.equal(verdictOf({ label: "", name: "None of these" }, answer), "exclude");
});

test("the table has every answer, corrected or not", () => {
  const answer = { character: null, name: null, probability: 0.25 };
  const entry = { name: "a.png", sha256: "ba78", truth: null, when: "2026-01-01T00:00:00Z", answers: { one: answer } };
  const [header, row, ofForgotten] = table({ pictures: [entry], forgotten: [entry], nameOf: (key) => key }).split("\r\n");
  assert.ok(header.startsWith('"path","sha256","label","verdict","who","when"'));
  assert.equal(row, '"a.png","ba78","","","","2026-01-01T00:00:00Z","one","","","0.2500"');
  assert.equal(ofForgotten, row);
});

const unreadable = { size: 4096, slice: () => unreadable, arrayBuffer: () => Promise.reject(new Error("NotFoundError")) };

test("the digest of a file is that of FIPS 180-2, and empty where it cannot be read", async () => {
  assert.equal(await sha256(new Blob(["abc"])), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  assert.equal(await sha256(unreadable), "");
});

test("a folder, or a file that was moved, gets a message that says so", async () => {
  await assert.rejects(declaredSize(unreadable), /folder.*choose it again/);
});

test("pictures of two tabs, and of two visits, have different numbers", () => {
  const [one, later] = [{ lastPicture: 0 }, { lastPicture: 0 }];
  const ids = [one, one, later].map((tab, index) => {
    if (tab === later) while (Date.now() <= one.lastPicture); // a tab that was opened later
    return Page.prototype.newPicture.call(tab, `${index}.png`).id;
  });
  assert.equal(new Set(ids).size, 3);
});

/** A page of which nothing is drawn. */
function undrawn(shelf) {
  const drawn = { draw() {}, drawProblems() {}, drawAnswer() {}, history: { draw() {} } };
  const nothing = { ...drawn, problems: [], pictures: [], forgotten: [], lastPicture: 0, isSaved: true, shelf };
  return Object.assign(Object.create(Page.prototype), nothing);
}

test("a correction that the browser cannot keep is not taken for safe", async () => {
  const shelf = { isOn: true };
  shelf.put = async () => {
    shelf.isOn = false;
    throw new Problem("full");
  };
  const page = undrawn(shelf);
  const entry = { truth: { label: "homer", name: "Homer" } };
  page.pictures.push(entry);
  await page.keep(entry);
  assert.deepEqual([page.isSaved, page.problems[0].words], [false, "full"]);
});

test("a correction that was begun and left empty is none", async () => {
  globalThis.document = { getElementById: () => null };
  const page = undrawn({ isOn: false });
  page.correct({ truth: null }, null);
  assert.equal(page.isSaved, true);
  page.correct({ truth: null }, { label: "homer", name: "Homer" });
  assert.equal(page.isSaved, false);
});

test("what is wrong with many pictures is said once", () => {
  const page = undrawn();
  for (const name of "abcdefg") page.fail(new Problem("No."), name);
  page.fail(new Problem("Too many."));
  assert.deepEqual(page.problems.map(({ names, words }) => [names.join(""), words]), [["abcdefg", "No."], ["", "Too many."]]);
});

test("a picture that comes before the kept ones are read is kept too", async () => {
  const put = [];
  const shelf = { isOn: false, put: async (entry) => put.push(entry) };
  const page = undrawn(shelf);
  page.restored = Promise.resolve().then(() => (shelf.isOn = true));
  await page.keep("early");
  assert.deepEqual(put, ["early"]);
});

test("a picture that is being kept while the visitor wants none kept any more does not stay", async () => {
  const kept = new Set();
  const shelf = {
    isOn: true,
    put: async (entry) => {
      await new Promise((resolve) => setTimeout(resolve, 5));
      kept.add(entry);
      shelf.isOn = true;
    },
    clear: async () => {
      shelf.isOn = false;
      kept.clear();
    },
  };
  const page = undrawn(shelf);
  page.keep("early");
  page.toggleShelf(false);
  await page.keep("late");
  assert.deepEqual([shelf.isOn, kept.size], [false, 0]);
});

test("of the kept pictures the oldest go too", async () => {
  const removed = [];
  const page = undrawn({ isOn: true, remove: async (id) => removed.push(id) });
  page.pictures = Array.from({ length: 302 }, (_, index) => ({ id: 1000 - index, url: "blob:x", veils: {} }));
  page.forgetOldest();
  await page.restored;
  assert.deepEqual([page.pictures.length, removed], [300, [700, 699]]);
});

test("what a visitor says is dated when it is said", () => {
  globalThis.document = { getElementById: () => null };
  const entry = { truth: null, when: "2026-01-01T00:00:00.000Z" };
  const before = new Date().toISOString();
  undrawn({ isOn: false }).correct(entry, { label: "homer", name: "Homer" });
  assert.ok(entry.when >= before);
});

test("answers outlast the pictures that had to make room", () => {
  const page = undrawn({ isOn: false });
  const answers = { one: { character: "homer", name: "Homer", probability: 0.9 } };
  page.pictures = Array.from({ length: 320 }, (_, number) => ({ name: `${number}.png`, answers, veils: {}, when: "" }));
  page.pictures.at(-1).truth = { label: "marge", name: "Marge" };
  page.nameOf = (key) => key;
  page.forgetOldest();
  assert.equal(page.pictures.length, 300);
  const rows = table(page).trim().split("\r\n");
  assert.equal(rows.length, 1 + 320);
  assert.ok(rows.some((row) => row.startsWith('"319.png"') && row.includes('"relabel"')));
});

test("a kept answer of a network that is another one now is asked for again, and stays where none comes", async () => {
  const page = undrawn({ isOn: false });
  page.pictures = [];
  page.transport = {
    about: { networks: [{ key: "a", file: "new-a" }, { key: "b", file: "new-b" }] },
    recognise: async () => ({ a: { character: "homer" }, b: { problem: "It could not be loaded." } }),
  };
  const answers = { a: { character: "bart" }, b: { character: "lisa" } };
  const entry = { answers, files: { a: "old-a", b: "old-b" }, picture: {} };
  await page.askAgain([entry]);
  assert.deepEqual(entry.answers, { a: { character: "homer" }, b: { character: "lisa" } });
  assert.deepEqual(entry.files, { a: "new-a", b: "old-b" });
});
