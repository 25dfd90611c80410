import numpy as np
import pytest

from lib.evaluation import strangers


def test_one_is_left_out_of_each_class_of_frequency():
    counts = {f"c{n}": 100 - n for n in range(38)}
    left_out = strangers.choose_left_out(counts, 10, seed=3)
    assert len(set(left_out)) == 10
    assert left_out == strangers.choose_left_out(counts, 10, seed=3)
    places = sorted(int(character[1:]) for character in left_out)
    # 38 in 10 strata: eight of four and two of three, each with one place.
    assert all(low <= place < high for place, low, high in zip(places, range(0, 32, 4), range(4, 36, 4), strict=False))


def test_somebody_must_be_left():
    with pytest.raises(ValueError, match="number"):
        strangers.choose_left_out({"a": 1, "b": 2}, 2)


def test_scores_of_probabilities():
    probabilities = np.array([[0.6, 0.3, 0.1], [0.1, 0.1, 0.8]])
    assert strangers.largest_probability(probabilities, 2) == pytest.approx([0.6, 0.1])
    assert strangers.known_probability(probabilities, 2) == pytest.approx([0.9, 0.2])


def test_energy_knows_how_large_logits_are():
    assert strangers.negative_energy(np.array([[0.0, 0.0], [1000.0, 0.0]])) == pytest.approx([np.log(2), 1000.0])


def test_features_near_those_of_training_are_similar():
    nearest = strangers.NearestFeatures(np.array([[2.0, 0.0], [0.0, 1.0]]), neighbours=1)
    assert nearest.similarity(np.array([[5.0, 0.0], [1.0, 1.0], [-1.0, 0.0]])) == pytest.approx(
        [1, 0.5**0.5, 0], abs=1e-6
    )


def test_scores_are_compared_at_a_threshold_of_the_known():
    known = {"good": np.arange(10, 110), "blind": np.zeros(100)}
    unknown = {"good": np.arange(0, 20), "blind": np.zeros(20)}
    table = strangers.compare(known, unknown, keep=0.95)
    assert table["good"]["threshold"] == 15
    assert table["good"]["named"] == pytest.approx(0.25)
    assert table["blind"] == {"threshold": 0.0, "named": 1.0, "auroc": 0.5, "fpr_at_95_tpr": 1.0}
