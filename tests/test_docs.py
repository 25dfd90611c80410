"""The pages say what the code and the committed records say."""

import functools
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from lib import paths, records
from lib.characters import display_name
from lib.data import corrections, dataset
from lib.evaluation import calibration, compare, intervals, metrics
from lib.pipeline import commands, plan

README, RESULTS = paths.ROOT / "README.md", paths.DOCS / "results.md"
ABLATION = paths.DOCS / "ablation.md"
PAGES = sorted(paths.DOCS.glob("*.md"))
WRITTEN = [README, paths.ROOT / "CONTRIBUTING.md", *PAGES]
NOTEBOOKS = sorted(paths.NOTEBOOKS.glob("*.ipynb"))


def name(path):
    return path.relative_to(paths.ROOT).as_posix()


def text_of(path):
    return path.read_text(encoding="utf-8")


def prose_of(path):
    """Give the text of a page, or of the Markdown cells of a notebook."""
    if path.suffix != ".ipynb":
        return text_of(path)
    cells = json.loads(text_of(path))["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


# ---------------------------------------------------------------- shape


def test_the_readme_takes_two_minutes():
    assert len(text_of(README).splitlines()) <= 120


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_page_is_short_and_linked_from_the_readme(page):
    assert len(text_of(page).splitlines()) <= 200
    assert f"]({name(page)})" in text_of(README)


@pytest.mark.parametrize("page", WRITTEN, ids=name)
def test_every_link_inside_the_repository_leads_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        target, _, anchor = link.partition("#")
        if "://" not in link:
            file = page.parent / target if target else page
            assert file.exists(), link
            assert not anchor or anchor in anchors(file), link


def anchors(page):
    headings = re.findall(r"^#+ (.+)$", prose_of(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", WRITTEN, ids=name)
def test_nothing_is_left_to_fill_in(page):
    assert "@@" not in text_of(page)


# ---------------------------------------------------------------- what the code says


@pytest.mark.parametrize(("page", "text"), commands.generated_pages().items())
def test_a_generated_table_is_up_to_date(page, text):
    assert text_of(page) == text, "run `make docs`"


@pytest.mark.parametrize("page", [*WRITTEN, *NOTEBOOKS], ids=name)
def test_every_command_and_variable_of_make_exists(page):
    targets = set(re.findall(r"^([a-z]+):", text_of(paths.ROOT / "Makefile"), re.MULTILINE))
    code = "\n".join(re.findall(r"`[^`\n]+`|^    .+$", prose_of(page), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z]+)", code)) <= targets
    assert set(re.findall(r"\b([A-Z_]{2,})=", code)) <= {*plan.VARIABLES, *plan.OTHER_VARIABLES}


def test_the_table_of_notebooks_has_the_question_of_each():
    listed = {
        row["notebook"].strip("`"): row["question"]
        for row in table_rows(paths.DOCS / "architecture.md")
        if "notebook" in row and "question" in row
    }
    asked = {path.stem: re.search(r"\n\*(.+?)\*", prose_of(path)) for path in NOTEBOOKS}
    assert listed == {notebook: question[1] if question else "the page" for notebook, question in asked.items()}


def test_every_module_of_a_package_is_in_the_table_of_packages():
    listed = {
        row["package"].strip("`"): set(re.findall(r"`(\w+)`", row["modules"]))
        for row in table_rows(paths.DOCS / "architecture.md")
        if "package" in row
    }
    found = {
        folder.name: {module.stem for module in folder.glob("*.py")} - {"__init__", "__main__"}
        for folder in (paths.ROOT / "lib").iterdir()
        if (folder / "__init__.py").exists()
    }
    assert listed == found


# ---------------------------------------------------------------- what the records say


class Published:
    """A committed run folder, and the numbers that pages quote of it."""

    def __init__(self, run: str):
        self.run = run
        self.folder = paths.PUBLISHED / run

    @functools.cached_property
    def record(self) -> dict[str, Any]:
        return records.read_run(self.folder)

    @functools.cached_property
    def scores(self) -> dict[str, Any]:
        return records.read_metrics(self.folder)

    @functools.cached_property
    def corrupted(self) -> pd.DataFrame:
        return pd.read_csv(self.folder / records.ROBUSTNESS)

    @property
    def unchanged(self) -> float:
        return self.corrupted.macro_f1[self.corrupted.kind == "unchanged"].item()

    @property
    def corrupted_score(self) -> float:
        return self.corrupted.macro_f1[self.corrupted.kind != "unchanged"].mean()

    @property
    def loss(self) -> float:
        return self.unchanged - self.corrupted_score

    @property
    def recovered(self) -> float:
        return 1 - self.loss / Published("springfield-frames-only").loss

    @property
    def own_test(self) -> dict[str, Any]:
        return self.scores["kaggle_test"]

    @property
    def grouped(self) -> "Published":
        return Published(self.run.removesuffix("-random"))


@functools.cache
def times_to_target():
    return compare.time_to_target(compare.evaluated(paths.PUBLISHED), reference="cnn6").set_index("run")


# What stands under each heading of a table whose rows begin with the name of a published run.
COLUMNS = {
    "conv layers": lambda of: of.record["conv_layers"],
    "parameters": lambda of: of.record["num_parameters"],
    "epochs": lambda of: of.record["epochs"],
    "s per epoch": lambda of: of.record["seconds_per_epoch"],
    "minutes": lambda of: of.record["seconds"] / 60,
    "seed": lambda of: of.record["recipe"]["seed"],
    "training pictures": lambda of: of.record["train_pictures"],
    "macro F1, validation": lambda of: of.record["best_val_macro_f1"],
    "accuracy": lambda of: of.scores["accuracy"],
    "macro F1": lambda of: of.scores["macro_f1"],
    "95 % interval": lambda of: of.scores["macro_f1_interval"],
    "lowest F1": lambda of: of.scores["lowest_f1"],
    "lowest character": lambda of: [display_name(of.scores["lowest_character"]), of.scores["lowest_f1"]],
    "archive's own test": lambda of: of.own_test["macro_f1"],
    "near-duplicates in train": lambda of: of.scores["near_duplicates_in_train"],
    "accuracy on near-duplicates": lambda of: of.scores["accuracy_of_near_duplicates"],
    "accuracy on others": lambda of: of.scores["accuracy_of_others"],
    "macro F1, grouped split": lambda of: of.grouped.scores["macro_f1"],
    "archive's own test, grouped split": lambda of: of.grouped.own_test["macro_f1"],
    "reached in epoch": lambda of: times_to_target().epoch[of.run],
    "after minutes": lambda of: times_to_target().minutes[of.run],
    "fraction of `cnn6`'s time": lambda of: times_to_target().minutes[of.run] / times_to_target().minutes["cnn6"],
    "unchanged": lambda of: of.unchanged,
    "corrupted": lambda of: of.corrupted_score,
    "loss": lambda of: of.loss,
    "recovered": lambda of: of.recovered,
}
IN_WORDS = {"run", "change"}


def table_rows(page: Path) -> Iterator[dict[str, str]]:
    """Give the rows of all tables of a page, each as its cells by heading."""
    for table in re.findall(r"(?:^\|.*\|\n)+", text_of(page), re.MULTILINE):
        headings, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
        yield from (dict(zip(headings, row, strict=True)) for row in rows)


def published_rows(page):
    """Give the rows that begin with the name of a published run, with the run."""
    for row in table_rows(page):
        found = re.match(r"\W*`([\w/-]+)`", next(iter(row.values())))
        if "run" in row and found and (paths.PUBLISHED / found[1] / records.RUN_RECORD).exists():
            yield Published(found[1]), row


def as_printed(value, like):
    """Write a value as a page has it, with as many decimals as the number `like`."""
    return value if isinstance(value, str) else f"{value:,.{len(like.partition('.')[2])}f}"


@pytest.mark.parametrize(
    ("page", "least"),
    [(README, 5), (RESULTS, 12 + 2 + 3 + 4), (ABLATION, 8 + 9), (paths.DOCS / "robustness.md", 5 + 2)],
    ids=str,
)
def test_rows_of_published_runs_are_those_of_their_records(page, least):
    rows = list(published_rows(page))
    assert len(rows) == least
    for run, row in rows:
        for heading in row.keys() - IN_WORDS:
            value = COLUMNS[heading](run)
            values = value if isinstance(value, list) else [value]
            printed = re.findall(r"[A-Z][\w ]+[a-z]|\d[\d,]*\.?\d*", row[heading])
            assert printed == [as_printed(*pair) for pair in zip(values, printed, strict=True)], (run.run, heading)


def test_scores_of_each_kind_of_corruption_are_those_of_the_records():
    rows = [row for row in table_rows(paths.DOCS / "robustness.md") if "`springfield-18-seed-2`" in row]
    for heading in rows[0].keys() - {"corruption"}:
        table = Published(heading.strip("`")).corrupted
        scores = table[table.kind != "unchanged"].groupby("kind", sort=False).macro_f1
        expected = {kind.replace("_", " "): " / ".join(f"{score:.3f}" for score in found) for kind, found in scores}
        assert {row["corruption"]: row[heading] for row in rows} == expected


def missing(page, *fragments):
    text = text_of(page)
    return [fragment for fragment in fragments if fragment not in text]


def interval(low, high):
    return f"{low:.3f} to {high:.3f}"


def percent(fraction):
    return f"{fraction:.0%}".replace("%", " %")


def shares(fraction, number):
    """Write a fraction of so many pictures, which its record lacks, in percent with its interval."""
    assert fraction * number == pytest.approx(round(fraction * number), abs=1e-6)
    low, high = (100 * end for end in intervals.of_fraction(fraction, number))
    return f"{100 * fraction:.1f} % ({low:.1f} to {high:.1f} %)"


def decimals(fraction, number):
    """The same with three decimals."""
    assert fraction * number == pytest.approx(round(fraction * number), abs=1e-6)
    return f"{fraction:.3f} ({interval(*intervals.of_fraction(fraction, number))})"


def listed(scores):
    *first, last = (f"{score['macro_f1']:.3f}" for score in scores)
    return f"{', '.join(first)} and {last}"


def predictions(run):
    return metrics.read_predictions(paths.PUBLISHED / run / records.PREDICTIONS)


BEST, FRAMES_ONLY = Published("springfield-18-seed-2"), Published("springfield-frames-only")
SEEDS = [Published("springfield-18"), Published("springfield-18-seed-1"), BEST]


def test_the_gain_by_depth_is_that_of_the_predictions():
    deep, shallow = predictions("cnn6-matched"), predictions("cnn4-matched")
    found = compare.differences({"deep": deep, "shallow": shallow}, best="deep").set_index("run").loc["shallow"]
    gain, bounds = f"gains {found.below_best:.3f} macro F1", interval(found.low, found.high)
    assert not missing(README, f"{gain} (95 % interval {bounds}")
    assert not missing(RESULTS, gain, f"The 95 % interval over test pictures is {bounds}")
    answers = {"deep": deep, "shallow": predictions("cnn4")}
    found = compare.differences(answers, best="deep").set_index("run").loc["shallow"]
    assert not missing(RESULTS, f"six layers gain {found.below_best:.3f} ({interval(found.low, found.high)})")


def test_the_gain_by_near_duplicates_is_that_of_the_records():
    leaky, clean = Published("cnn6-random"), Published("cnn6")
    gain = f"{leaky.scores['macro_f1'] - clean.scores['macro_f1']:.3f}"
    loss = f"{clean.own_test['macro_f1'] - leaky.own_test['macro_f1']:.3f}"
    assert not missing(RESULTS, f"`cnn6` gains {gain} on the test split", f"it loses {loss}")
    gain = Published("springfield-18-random").scores["macro_f1"] - Published("springfield-18").scores["macro_f1"]
    assert not missing(RESULTS, f"`springfield-18` gains {gain:.3f}")


LEAKAGE = paths.DOCS / "leakage.md"


def test_a_reproduction_costs_the_minutes_of_the_records():
    def spelt(*runs):
        hours, minutes = divmod(round(sum(Published(run).record["seconds"] for run in runs) / 60), 60)
        return f"{hours} h {minutes} min" if hours else f"{minutes} min"

    asked = ("cnn4", "cnn6"), ("cnn4-matched", "cnn6-matched"), ("springfield-18-seed-2",), ("springfield",)
    *first, last = (spelt(*runs) for runs in asked)
    assert not missing(README, f"On two cores the trainings took {', '.join(first)} and {last}.")


def test_the_price_of_leaking_is_that_of_the_records():
    table = compare.leakage(compare.evaluated(paths.PUBLISHED)).set_index(["run", "split"])
    rows = [row for row in table_rows(LEAKAGE) if "network" in row]
    for row in rows:
        found = table.loc[row["network"].strip("`"), row["split"]]
        expected = {
            "split": row["split"],
            "grouped split": f"{found.grouped:.3f}",
            "this split": f"{found.macro_f1:.3f}",
            "gain": f"{found.gain:.3f}",
            "95 % interval": interval(found.low, found.high),
            "gain on the archive's own test": f"{found.gain_on_kaggle:.3f}",
            "with a near-duplicate": percent(found.near_duplicates),
            "accuracy on near-duplicates": f"{found.accuracy_of_near_duplicates:.3f}",
            "accuracy on others": f"{found.accuracy_of_others:.3f}",
            "grouped split, near-duplicates": f"{found.grouped_accuracy_of_near_duplicates:.3f}",
            "grouped split, others": f"{found.grouped_accuracy_of_others:.3f}",
        }
        assert {name: value for name, value in row.items() if name != "network"}.items() <= expected.items()
    assert len(rows) == 2 * len(table)
    apart = 100 * (table.accuracy_of_near_duplicates - table.accuracy_of_others)
    ease = 100 * (table.grouped_accuracy_of_near_duplicates - table.grouped_accuracy_of_others)
    six, best = ("cnn6", "random"), ("springfield-18", "random")
    assert not missing(
        LEAKAGE,
        f"of the {apart[six]:.1f} points between near-duplicates and others that `cnn6` has",
        f"{ease[six]:.1f} are ease; for `springfield-18` {ease[best]:.1f} of {apart[best]:.1f}",
    )


def test_the_price_of_leaking_over_seeds_is_that_of_the_records():
    table = compare.leakage_over_seeds(compare.evaluated(paths.PUBLISHED)).set_index("split")
    rows = {row["split"]: row for row in table_rows(LEAKAGE) if "seeds" in row}
    assert rows.keys() == set(table.index)
    for split, row in rows.items():
        found = table.loc[split]
        values = found[["gain", "smallest_gain", "largest_gain"]].map("{:.3f}".format)
        assert list(row.values()) == [
            split, str(found.seeds), values.gain, interval(found.low, found.high), *values.iloc[1:]
        ]  # fmt: skip
    gain, bounds = table.gain["resampled"], interval(table.low["resampled"], table.high["resampled"])
    assert not missing(LEAKAGE, f"Drawing with replacement adds {gain:.3f}")
    assert not missing(README, f"With a short recipe the gain is {gain:.3f} ({bounds}) over three seeds")
    assert not missing(RESULTS, f"gains {gain:.3f} ({bounds})")


def test_what_copies_explain_of_the_originals_score_is_that_of_the_records():
    found = compare.leakage(compare.evaluated(paths.PUBLISHED)).set_index(["run", "split"]).loc["cnn6", "resampled"]
    gain, bounds, distance = f"{found.gain:.3f}", interval(found.low, found.high), f"{0.954 - found.grouped:.3f}"
    own = f"{found.gain_on_kaggle:.3f} on the archive's own test set"
    assert not missing(
        LEAKAGE,
        f"scores {found.macro_f1:.3f} on such a split and {found.grouped:.3f} on the grouped one",
        f"a gain of {gain} ({bounds}), where the distance to the original is {distance}",
    )
    assert not missing(
        README,
        f"scores {found.macro_f1:.3f} instead of {found.grouped:.3f}, a gain of {gain} ({bounds}), and gains {own}",
        f"the distance to the original's 0.954 is {distance}, so leaking may explain a third of it or all",
    )
    assert 0.33 < found.low / (0.954 - found.grouped) < 0.4 and 0.95 < found.high / (0.954 - found.grouped) < 1.05
    assert not missing(RESULTS, f"the distance of {distance}", f"`cnn6` gains {gain} ({bounds})", f"and {own}")


def test_what_outside_weights_buy_is_that_of_the_table():
    (found,) = pd.read_csv(records.verified(paths.PUBLISHED / records.PRETRAINED)).itertuples()
    (row,) = (row for row in table_rows(RESULTS) if "outside weights" in row)
    scores = [f"{score:.3f}" for score in (found.accuracy, found.macro_f1)]
    scores += [interval(found.macro_f1_low, found.macro_f1_high), f"{found.kaggle_macro_f1:.3f}"]
    assert list(row.values())[1:] == [f"{found.parameters:,}", f"{found.epochs}", *scores]


def test_the_verdicts_are_counted_as_in_the_file():
    table = corrections.read(corrections.KAGGLE)
    number = table.verdict.value_counts()
    second = table[table.verdict == corrections.SECOND]
    pairs = {frozenset((path.partition("/")[0], other)) for path, other in zip(second.path, second.label, strict=True)}
    assert not missing(
        paths.DOCS / "labels.md",
        f"{number[corrections.RELABEL]} of these are filed under another character, "
        f"{number[corrections.EXCLUDE]} show none that the network knows, {len(second)} show a second one",
        f"{len(second)} frames show another of the 38 characters too",
        f"{len(pairs)} different pairs",
    )


def test_the_scores_on_reviewed_labels_are_those_of_the_records():
    verdicts = corrections.read(corrections.KAGGLE)
    table = compare.reviewed(compare.evaluated(paths.PUBLISHED), verdicts).set_index("run")
    rows = [row for row in table_rows(paths.DOCS / "labels.md") if "run" in row]
    for row in rows:
        found = table.loc[row["run"].strip("`")]
        assert (row["test pictures"], row["corrected"]) == (f"{found.test_pictures:,.0f}", f"{found.corrected:.0f}")
        assert row["macro F1"] == f"{found.macro_f1:.3f}"
        assert row["macro F1, reviewed"] == f"{found.reviewed_macro_f1:.3f}"
        gain = f"{found.gain:.3f} ({found.low:.3f} to {found.high:.3f})", f"{found.trained_on_reviewed:.3f}"
        assert (row["gain, 95 % interval"], row["macro F1, trained on reviewed too"]) == (
            ("", "") if np.isnan(found.gain) else gain
        )
    number = verdicts.verdict.value_counts()
    assert len(rows) == 6 and not missing(
        paths.DOCS / "labels.md",
        f"{number[corrections.RELABEL]} of these are filed under another character, {number[corrections.EXCLUDE]} show",
        f"{number[corrections.SECOND]} show a second one",
    )


def test_what_else_differs_by_training_on_reviewed_labels_is_that_of_the_records():
    runs = Published("springfield"), Published("springfield-corrected")
    found = [records.read_json(run.folder / records.STRANGERS) for run in runs]
    compared = {
        "macro F1 on validation": [run.record["best_val_macro_f1"] for run in runs],
        "accuracy, all 38": [run.scores["accuracy"] for run in runs],
        "macro F1 of the 18 frequent characters": [run.scores["frequent"]["macro_f1"] for run in runs],
        "macro F1, the archive's own test set": [run.own_test["macro_f1"] for run in runs],
        "macro F1 lost on corrupted pictures": [run.loss for run in runs],
        "two frames side by side, both found": [each["both_found"] for each in found],
        "one figure alone, a second name": [each["second_name"] for each in found],
        "maximum of the class map in the character's box": [each["pointing"] for each in found],
        "photographs, 200 parts of three, named": [each["named_strangers"]["photographs"] for each in found],
    }
    rows = (f"| {name} | {before:.3f} | {after:.3f} |" for name, (before, after) in compared.items())
    assert not missing(paths.DOCS / "labels.md", *rows)


# In the order of the page, which has some of the names short.
LEFT_OUT = ["lisa_simpson", "krusty_the_clown", "chief_wiggum", "apu_nahasapeemapetilon", "nelson_muntz"]
LEFT_OUT += ["waylon_smithers", "carl_carlson", "patty_bouvier", "agnes_skinner", "otto_mann"]


def test_the_scores_of_unknown_characters_are_those_of_the_records():
    columns = ("unknown_named", "strangers_named", "changed_declined")
    for row in pd.read_csv(paths.PUBLISHED / records.UNKNOWN).to_dict("records"):
        shares = " | ".join(f"{100 * row[name]:.1f} %" for name in columns)
        assert not missing(RESULTS, f"| {row['score']} | {row['auroc']:.3f} | {row['fpr_at_95_tpr']:.3f} | {shares} |")
    table = pd.read_csv(paths.PUBLISHED / records.UNKNOWN).set_index("score")
    best, rule = table.iloc[0], table.loc["probability of all that the map shows"]
    named = [f"{100 * each.unknown_named:.1f} %" for each in (best, rule)]
    without = table.loc["largest probability, without nobody"].strangers_named
    assert not missing(
        RESULTS,
        f"On test its AUROC is {best.auroc - rule.auroc:.3f} higher",
        f"it names {named[0]} of the left-out characters instead of {named[1]}",
        f"{100 * rule.strangers_named:.1f} % of it is named, and {100 * without:.1f} % where the same network",
    )
    left_out = Published("springfield").folder / records.PER_CHARACTER
    pictures = pd.read_csv(left_out).set_index("character").support[LEFT_OUT]
    named = table.unknown_named * pictures.sum()
    np.testing.assert_allclose(named, named.round(), atol=1e-6)  # these were the characters
    share = percent(pictures[:3].sum() / pictures.sum())
    assert not missing(RESULTS, f"The first three have {share} of the {pictures.sum()} test pictures")


def test_the_baselines_are_those_of_the_records():
    for row in pd.read_csv(paths.PUBLISHED / records.BASELINES).itertuples():
        assert not missing(RESULTS, f"| {row.baseline} | {row.accuracy:.3f} | {row.macro_f1:.3f} |")


def test_the_targets_are_measured_as_the_records_say():
    score, lowest, seconds = BEST.scores["macro_f1"], BEST.scores["lowest_f1"], BEST.record["seconds"]
    seed_0, seed_1, _ = (f"{seed.scores['macro_f1']:.3f}" for seed in SEEDS)
    others = f"the seed that validation selects; the two others {seed_0} and {seed_1}"
    assert not missing(README, f"reaches {score:.3f} ({others})", f"on {BEST.scores['test_pictures']:,} test pictures")
    assert not missing(
        RESULTS,
        f"| {score:.3f} ({interval(*BEST.scores['macro_f1_interval'])}) | missed by {0.975 - score:.4f};",
        f"| {lowest:.4f} | missed by {0.94 - lowest:.4f},",
        f"| {BEST.own_test['macro_f1']:.3f} ({interval(*BEST.own_test['macro_f1_interval'])}) | met",
        f"| {seconds / 60:.0f} min | met",
        f"| {BEST.record['num_parameters'] / 1e6:.2f} million | met",
    )


def test_the_network_of_the_page_is_measured_as_its_records_say():
    town = Published("springfield")
    scores, frequent, own = town.scores, town.scores["frequent"], town.own_test
    found = records.read_json(town.folder / records.STRANGERS)
    strange, declined = found["named_strangers"], found["declined_though_right"]
    nothing = ", ".join(f"{strange[kind]:.1%}".replace("%", " %") for kind in ("text", "patterns", "scenery"))
    styles = ", ".join(f"{fraction:.1%}".replace("%", " %") for fraction in declined.values())
    size = (town.folder / records.LITERT_MODEL).stat().st_size
    assert not missing(README, f"knows {len(town.record['characters'])} characters, which the page shows")
    answers = metrics.read_predictions(town.folder / records.PREDICTIONS)
    of_18 = np.isin(np.array(answers.characters)[answers.actual], BEST.record["characters"])
    on_theirs = metrics.macro_f1(answers.actual[of_18], answers.predicted[of_18])
    by_chance, usual = calibration.error_by_chance(answers.probabilities.max(axis=1))
    generated = [round(200 * strange[kind]) for kind in ("text", "patterns", "scenery", "invented figures")]
    assert not missing(
        README,
        f"{percent(1 - strange['clip-art'])} of the clip-art and to all but {sum(generated)} of 800 generated pictures",
    )
    assert not missing(
        README, f"macro F1 {scores['macro_f1']:.3f}, and {on_theirs:.3f} on the test pictures of those 18 characters"
    )
    assert not missing(
        RESULTS,
        f"The {frequent['macro_f1']:.3f} does not compare with the {BEST.scores['macro_f1']:.3f}",
        f"each of the {(~of_18).sum()} pictures of other characters",
        f"On the same {of_18.sum():,} pictures, those of the 18, `springfield` scores {on_theirs:.3f}",
    )
    assert not missing(
        RESULTS,
        f"| accuracy, all 38 | 0.965 | {scores['accuracy']:.3f} |",
        f"| {scores['macro_f1']:.3f} ({interval(*scores['macro_f1_interval'])}) |",
        f"| macro F1 of the 18 frequent characters | 0.980 | {frequent['macro_f1']:.3f} |",
        f"| lowest of the 18 | 0.95 | {frequent['lowest_f1']:.3f} |",
        f"its 20 characters | 0.985 | {own['macro_f1']:.3f} ({interval(*own['macro_f1_interval'])}) |",
        f"| {scores['calibration_error']:.3f} ({interval(*scores['calibration_error_interval'])}) |",
        f"chance alone would give {by_chance:.3f} ({interval(*usual)})",
        f"| {shares(found['named'], 500)} |",
        f"| 3 % | {shares(strange['clip-art'], 295)} |",
        f"| 3 % | {shares(strange['photographs'], 200)} |",
        f"| 3 % | {nothing} |",
        f"| 3 % | {shares(strange['invented figures'], 200)} |",
        f"| 10 % | {styles} |",
        f"| 0.96 | {decimals(found['pointing'], 182)} |",
        f"| 0.75 | {decimals(found['box_overlap'], 182)} |",
        f"| 0.85 | {decimals(found['both_found'], 469)} |",
        f"| 4 % | {shares(found['second_name'], 182)} |",
        f"the interval of the first, {shares(declined['cut_out_on_white'], 406).split('(')[1][:-1]}, contains 10 %",
        f"| 0.045 | {town.loss:.3f} |",
        f"| {size / 1e6:.2f} MB |",
        f"| {town.record['seconds'] / 60:.0f} min |",
        f"validation, {town.record['best_val_macro_f1']:.3f}, selected epoch {town.record['best_epoch']}",
    )


def test_larger_pictures_and_more_epochs_are_compared_as_the_records_say():
    runs = Published("springfield-96px"), Published("springfield")
    answers = [metrics.read_predictions(run.folder / records.PREDICTIONS) for run in runs]
    found = [records.read_json(run.folder / records.STRANGERS) for run in runs]
    of_18 = np.isin(np.array(answers[0].characters)[answers[0].actual], BEST.record["characters"])
    theirs = [metrics.macro_f1(each.actual[of_18], each.predicted[of_18]) for each in answers]
    compared = {
        "macro F1 on validation": [run.record["best_val_macro_f1"] for run in runs],
        "accuracy, all 38": [run.scores["accuracy"] for run in runs],
        "macro F1, all 38": [run.scores["macro_f1"] for run in runs],
        "macro F1 of the 18 frequent characters": [run.scores["frequent"]["macro_f1"] for run in runs],
        "the same on their own pictures": theirs,
        "macro F1, the archive's own test set": [run.own_test["macro_f1"] for run in runs],
        "macro F1 lost on corrupted pictures": [run.loss for run in runs],
        "two frames side by side, both found": [each["both_found"] for each in found],
    }
    assert not missing(RESULTS, *(f"| {name} | {old:.3f} | {new:.3f} |" for name, (old, new) in compared.items()))
    seconds = " | ".join(f"{100 * each['second_name']:.1f} %" for each in found)
    old, new = (each.predicted == each.actual for each in answers)
    assert not missing(
        RESULTS,
        f"| one figure alone, a second name | {seconds} |",
        f"{(new & ~old).sum()} of {len(new):,} pictures are right with `springfield` only",
        f"{(old & ~new).sum()} with `springfield-96px` only",
        f"in fewer epochs, scores {theirs[0]:.3f}",
    )
    difference = (
        compare.differences(dict(zip(("old", "new"), answers, strict=True)), best="new").set_index("run").loc["old"]
    )
    assert not missing(
        RESULTS, f"The paired interval of that difference is {interval(difference.low, difference.high)}"
    )


def test_a_training_on_all_frames_is_scored_on_pictures_that_no_training_has_seen():
    more, less, gaps = [], [], []
    for first in (Published("springfield"), Published("springfield-96px")):
        shipped = first.record["refit"]
        rows = ((first.record, first.own_test), (shipped, shipped["scores"]))
        assert not missing(
            paths.DOCS / "recipes.md",
            *(
                f"| {record['train_pictures']:,} | {record['epochs']} | {scores['accuracy']:.3f} "
                f"| {scores['macro_f1']:.3f} ({interval(*scores['macro_f1_interval'])}) | {scores['log_loss']:.3f} |"
                for record, scores in rows
            ),
        )
        mistakes = [round((1 - scores["accuracy"]) * scores["test_pictures"]) for _, scores in rows]
        more.append(mistakes[1] - mistakes[0])
        gaps.append(shipped["scores"]["calibration_error"])
        less.append(f"{100 * (1 - shipped['scores']['log_loss'] / first.own_test['log_loss']):.0f} %")
        assert (shipped["scores"]["test_pictures"], shipped["scores"]["near_duplicates_in_train"]) == (990, 0)
    assert more == [1, 4]
    assert not missing(
        paths.DOCS / "recipes.md",
        f"one and four more of 990 pictures get a wrong name, and the log loss is {' and '.join(less)} lower",
        f"the calibration error of the file that ships is {gaps[0]:.3f} there",
    )


def test_the_robustness_loss_is_that_of_the_records():
    loss, base_loss = f"{BEST.loss:.3f}", f"{FRAMES_ONLY.loss:.3f}"
    assert not missing(RESULTS, f"{percent(BEST.recovered)} recovered: {loss} is lost instead of {base_loss}")
    short, short_base = Published("ablation/base"), Published("ablation/frames-only")
    assert not missing(
        paths.DOCS / "robustness.md",
        f"In six epochs, robustness augmentation recovers {percent(1 - short.loss / short_base.loss)} of the loss",
        f"costs {short_base.unchanged - short.unchanged:.3f} on these 500 unchanged pictures",
        f"In 44 epochs it recovers {percent(BEST.recovered)}",
        f"{listed(run.scores for run in SEEDS)} against {FRAMES_ONLY.scores['macro_f1']:.3f} on the test split",
        f"{listed(run.own_test for run in SEEDS)} against {FRAMES_ONLY.own_test['macro_f1']:.3f} on the archive's own",
    )


def test_what_more_frames_bring_is_that_of_the_records():
    table = compare.by_frames(paths.PUBLISHED / "accuracy")
    number, now = table.train_pictures.iloc[-1], table.mistakes.iloc[-1]
    more = number / dataset.SPLIT_FRACTIONS["train"]
    (scale, exponent), (scale_without, exponent_without) = compare.power_law(table), compare.power_law(table[1:])
    assert not missing(
        ABLATION,
        f"A line through all four predicts that twice as many frames leave {percent(2**exponent)} of it",
        f"one that leaves the smallest training out {percent(2**exponent_without)}",
        f"about {more:,.0f}, should come to {scale * more**exponent:.3f} by the one and "
        f"{scale_without * more**exponent_without:.3f} by the other, where {now:.3f} was measured for {number:,}",
    )


def test_what_two_seeds_differ_by_is_that_of_the_records():
    noise, trainings = compare.seed_noise(paths.PUBLISHED)
    assert trainings == 7
    assert not missing(
        ABLATION, "trained seven times in all", f"95 % of two such trainings differ by less than {noise:.3f}"
    )
    scores = {
        series: compare.ablation(paths.PUBLISHED / series).set_index("run").val_macro_f1
        for series in ("ablation", "accuracy")
    }
    apart = {series: {*of.index[(of - of["base"]).abs() > noise]} for series, of in scores.items()}
    assert apart["ablation"] == {"sgd", "no-background-swap"}
    ties = {"base", "base-seed-1", "wide", "reviewed-labels-corrected", "most-frames"}
    assert {*scores["accuracy"].index} - apart["accuracy"] == ties
    others = [Published(f"leakage/short-seed-{seed}").record["best_val_macro_f1"] for seed in (1, 2, 3)]
    assert max([*others, scores["accuracy"]["base-seed-1"]]) < scores["accuracy"]["base"]  # the best of five


def test_the_errors_that_all_seeds_share_are_those_of_the_predictions():
    found = metrics.ensemble_agreement([predictions(seed.run) for seed in SEEDS])
    assert not missing(
        RESULTS,
        f"scores {found['mean_macro_f1']:.3f} too",
        f"the same {found['wrong_by_all']} of the {found['test_pictures']:,} test pictures, "
        f"and give {found['same_wrong_label']} of these the same wrong label",
    )
    answers = [predictions(seed.run) for seed in SEEDS]
    wrong = np.array([each.predicted != each.actual for each in answers])
    *first, last = wrong.sum(axis=1)
    assert not missing(RESULTS, f"of their {', '.join(map(str, first))} and {last} errors")
    assert (found["wrong_by_all"] / wrong.sum(axis=1)).min() + 0.05 > 0.5
    alike = wrong.all(axis=0) & (np.ptp([each.predicted for each in answers], axis=0) == 0)
    reviewed = corrections.read(corrections.KAGGLE).set_index("path").verdict
    verdicts = reviewed.reindex(np.array(answers[0].paths)[alike]).value_counts()
    assert corrections.SECOND not in verdicts and not missing(
        RESULTS, f"{verdicts[corrections.RELABEL]} of the {alike.sum()} are mislabelled"
    )


def test_the_shared_errors_and_the_other_training_of_the_short_recipe_are_those_of_the_records():
    short, again = Published("springfield-short"), Published("accuracy/base")
    columns = ["val_loss", "val_macro_f1"]
    before, after = (pd.read_csv(run.folder / records.HISTORY)[columns] for run in (short, again))
    assert before.equals(after)
    thresholds = [run.record["recipe"].get("flip_tta_threshold", 0.0) for run in (short, again)]
    assert thresholds == [0.0, 0.8]
    scores = f"macro F1 {again.scores['macro_f1']:.3f} instead of {short.scores['macro_f1']:.3f}"
    assert not missing(RESULTS, scores)


# ---------------------------------------------------------------- language


# Private vocabulary that readers of the field would not know.
NOT_ENGLISH = [
    *("near-copy", "near-copies", "learn from", "learns from", "learnt from", "told apart", "cannot be meant"),
    *("plain margin", "holds the code to", "the house has", "bear other pictures", "which alone may choose"),
    *("what is left is hardly chance", "won back", "second look", "what stands on the terminal"),
    *("with a sentence when something is amiss", "take down the parameters", "none of them does"),
    *("chosen so that what each layer gives", "honest sentence", "in the kernel of a visitor"),
]
SUFFIXES = {".md", ".yaml", ".py", ".ipynb"}
FOLDERS = ("docs", "lib", "notebooks", "tests", "outputs/published")


def sources():
    below = (path for folder in FOLDERS for path in (paths.ROOT / folder).rglob("*"))
    for path in [*paths.ROOT.glob("*.*"), *paths.DATA.glob("*.*"), *below]:
        hidden = any(part.startswith(".") for part in path.relative_to(paths.ROOT).parts)
        # An executed notebook is a product of an earlier state of the tree.
        executed = path.suffix == ".ipynb" and paths.NOTEBOOKS not in path.parents
        if path.suffix in SUFFIXES and path.is_file() and not (hidden or executed) and path != Path(__file__):
            yield path


@pytest.mark.parametrize("phrase", NOT_ENGLISH)
def test_no_file_has_private_vocabulary(phrase):
    unwrapped = {path: re.sub(r"\n\s*(# ?)?", " ", text_of(path)).lower() for path in sources()}
    assert [name(path) for path, text in unwrapped.items() if phrase in text] == []


# ---------------------------------------------------------------- safeguards


def test_every_promise_names_a_test_that_there_is():
    named = re.findall(r"`(tests/\w+\.py)::(\w+)`", text_of(paths.DOCS / "safeguards.md"))
    assert len(named) > 20
    assert [test for file, test in named if f"def {test}(" not in text_of(paths.ROOT / file)] == []


# ---------------------------------------------------------------- licence and citation


def test_the_licence_is_mit_for_the_code_and_that_of_the_data_for_what_is_published():
    text = " ".join(text_of(paths.ROOT / "LICENSE").split())
    assert "Permission is hereby granted, free of charge, to any person obtaining a copy" in text
    assert 'THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND' in text
    assert "outputs/published" in text and "CC BY-NC-SA 4.0" in text


def test_the_citation_has_the_version_and_the_licence_of_the_package():
    citation = yaml.safe_load(text_of(paths.ROOT / "CITATION.cff"))
    project = tomllib.loads(text_of(paths.ROOT / "pyproject.toml"))["project"]
    assert citation["cff-version"] == "1.2.0"
    assert (str(citation["version"]), citation["license"]) == (project["version"], project["license"])
