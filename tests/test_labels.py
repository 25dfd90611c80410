import numpy as np
import pandas as pd
import pytest

from lib.evaluation import labels, metrics

# Three pictures of each of two characters; the third of each looks like the other character.
ACTUAL = np.array([0, 0, 0, 1, 1, 1])
PROBABILITIES = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.3, 0.7], [0.2, 0.8], [0.8, 0.2]])


def test_a_picture_confidently_of_another_character_is_suspected_the_clearest_first():
    # Means of the own labels: (0.9 + 0.8 + 0.1) / 3 = 0.6 and (0.7 + 0.8 + 0.2) / 3 = 0.57.
    # Margins: 0.1 - 0.9 = -0.8 and 0.2 - 0.8 = -0.6.
    assert labels.suspects(ACTUAL, PROBABILITIES).tolist() == [2, 5]


def test_a_picture_that_reaches_no_threshold_keeps_its_label():
    actual, probabilities = np.array([0, 0, 1, 1]), np.array([[0.99, 0.01], [0.45, 0.55], [0.01, 0.99], [0.01, 0.99]])
    # The means of the own labels are 0.72 and 0.99: the second picture reaches neither.
    assert labels.suspects(actual, probabilities).tolist() == []


def test_wrong_labels_that_were_planted_are_found():
    rng = np.random.default_rng(0)
    true = rng.integers(5, size=2000)
    logits = rng.normal(0, 1, (2000, 5))
    logits[np.arange(2000), true] += 4
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    given = true.copy()
    planted = rng.choice(2000, 60, replace=False)
    given[planted] = (true[planted] + 1) % 5
    found = labels.suspects(given, probabilities)
    assert np.isin(planted, found).mean() > 0.7
    assert np.isin(found[:40], planted).mean() > 0.9


def test_two_characters_are_pictures_with_a_probable_second():
    probabilities = np.array([[0.9, 0.05, 0.05], [0.5, 0.4, 0.1], [0.8, 0.2, 0.0]])
    assert labels.two_characters(probabilities).tolist() == [1, 2]


def test_the_share_of_wrong_labels_counts_what_was_reviewed():
    verdicts = pd.Series(["keep"] * 95 + ["relabel"] * 3 + ["exclude", "second", ""])
    number, share, low, high = labels.share_of_wrong(verdicts)
    assert (number, share) == (100, pytest.approx(0.04))  # 4 of 100
    # Wilson: (0.04 + 1.92 / 100 ± 1.96 sqrt(0.04 * 0.96 / 100 + 0.96 / 100²)) / (1 + 3.84 / 100)
    assert (low, high) == pytest.approx((0.0157, 0.0984), abs=1e-4)
    assert labels.share_of_wrong(pd.Series([""]))[0] == 0


def test_answers_are_scored_on_the_labels_that_people_decided_on():
    verdicts = pd.DataFrame(
        [("b", "lisa", "relabel"), ("c", "", "exclude"), ("d", "a stranger", "relabel"), ("a", "bart", "keep")],
        columns=["path", "label", "verdict"],
    )
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5], [0.6, 0.4]])
    answers = metrics.Predictions(list("abcd"), np.zeros(4, np.int64), probabilities, ["bart", "lisa"], np.arange(4))
    corrected, number = labels.relabelled(answers, verdicts)
    assert (corrected.paths, corrected.actual.tolist(), number) == (["a", "b"], [0, 1], 3)
    assert corrected.groups.tolist() == [0, 1]
