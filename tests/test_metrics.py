import json

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from lib.errors import UserError
from lib.evaluation import intervals, metrics

CHARACTERS = ["apu", "bart", "carl"]
# Worked out by hand below: apu has 3 pictures and 3 answers, 2 of them right; bart has 2 pictures and 3 answers, 2 of
# them right; carl has 1 picture and no answer.
ACTUAL = np.array([0, 0, 0, 1, 1, 2])
PREDICTED = np.array([0, 0, 1, 1, 1, 0])


def answers(predicted, top=0.7, num_characters=3):
    """Probabilities with `top` for the predicted character and the rest spread evenly over the others."""
    probabilities = np.full((len(predicted), num_characters), (1 - top) / (num_characters - 1))
    probabilities[np.arange(len(predicted)), predicted] = top
    return probabilities


def simulated(num_pictures=600, num_characters=18, seed=0):
    random = np.random.default_rng(seed)
    actual = random.integers(num_characters, size=num_pictures)
    scores = random.normal(size=(num_pictures, num_characters)) + 2.5 * np.eye(num_characters)[actual]
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return actual, probabilities.astype(np.float32), [f"character_{n}" for n in range(num_characters)]


PROBABILITIES = answers(PREDICTED)


def given(actual=ACTUAL, probabilities=PROBABILITIES, characters=CHARACTERS, groups=None):
    return metrics.Predictions([f"{n}.jpg" for n in range(len(actual))], actual, probabilities, characters, groups)


# ---------------------------------------------------------------- scores per character


def test_per_character_has_the_columns_that_readers_of_the_file_expect():
    table = metrics.per_character(given())
    assert list(table) == ["character", "precision", "recall", "f1", "support"]
    assert list(table["character"]) == CHARACTERS


def test_per_character_scores():
    table = metrics.per_character(given())
    np.testing.assert_allclose(table["precision"], [2 / 3, 2 / 3, 0])
    np.testing.assert_allclose(table["recall"], [2 / 3, 2 / 2, 0])
    # bart: 2 * (2/3) * 1 / (2/3 + 1) = (4/3) / (5/3) = 4/5
    np.testing.assert_allclose(table["f1"], [2 / 3, 4 / 5, 0])
    assert list(table["support"]) == [3, 2, 1]


def test_a_character_without_pictures_keeps_its_row():
    table = metrics.per_character(given(ACTUAL[:5], PROBABILITIES[:5]))
    assert table.iloc[2].tolist() == ["carl", 0, 0, 0, 0]


def test_the_report_ends_with_the_averages():
    report = metrics.classification_report(given()).set_index("character")
    assert list(report.index) == ["Apu", "Bart", "Carl", "accuracy", "macro average", "weighted average"]
    assert report.loc["accuracy", "f1"] == pytest.approx(4 / 6)
    assert report.loc["macro average", "recall"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    # weighted: (3 * 2/3 + 2 * 4/5 + 1 * 0) / 6 = 3.6 / 6
    assert report.loc["weighted average", "f1"] == pytest.approx(0.6)
    assert set(report["support"].tail(3)) == {6}


def test_macro_f1():
    # (2/3 + 4/5 + 0) / 3 = (22/15) / 3 = 22/45
    assert metrics.macro_f1(ACTUAL, PREDICTED) == pytest.approx(22 / 45)


def test_macro_f1_excludes_characters_without_pictures():
    # apu: 2 right of 2 answers and of 3 pictures: 2*2/(2+3) = 4/5; bart: 2*2/(3+2) = 4/5; carl has no picture
    assert metrics.macro_f1(ACTUAL[:5], PREDICTED[:5]) == pytest.approx(4 / 5)


def test_a_wrong_answer_that_names_an_absent_character_lowers_recall():
    # apu: 1 right of 1 answer and of 2 pictures: 2*1/(1+2) = 2/3; the other answer is the absent carl
    assert metrics.macro_f1(np.array([0, 0]), np.array([0, 2])) == pytest.approx(2 / 3)


def test_scores_agree_with_scikit_learn():
    actual, probabilities, characters = simulated()
    predicted = probabilities.argmax(axis=1)
    summary = metrics.summary(given(actual, probabilities, characters))
    expected = sklearn_metrics.f1_score(actual, predicted, average=None)
    assert summary["macro_f1"] == pytest.approx(expected.mean())
    assert summary["lowest_f1"] == pytest.approx(expected.min())
    assert summary["lowest_character"] == characters[expected.argmin()]
    assert summary["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(actual, predicted))
    assert summary["log_loss"] == pytest.approx(sklearn_metrics.log_loss(actual, probabilities))


# ---------------------------------------------------------------- the run as a whole


def test_the_summary_is_plain_json_with_the_keys_that_readers_expect():
    summary = metrics.summary(given(probabilities=PROBABILITIES.astype(np.float32), groups=np.arange(6)), threshold=0.8)
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert set(summary) == {
        *("accuracy", "macro_f1", "log_loss", "test_pictures", "characters", "lowest_f1", "lowest_character"),
        *("accuracy_interval", "macro_f1_interval", "threshold", "confused"),
    }
    assert summary["test_pictures"] == 6
    assert summary["characters"] == CHARACTERS
    assert (summary["lowest_character"], summary["lowest_f1"]) == ("carl", 0)
    assert summary["threshold"] == 0.8
    f1 = metrics.per_character(given()).set_index("character").f1
    assert summary["confused"] == f1[f1 < 0.8].index.tolist()


def test_the_lowest_character_is_one_that_has_pictures():
    summary = metrics.summary(given(ACTUAL[:5], PROBABILITIES[:5]))
    assert summary["lowest_character"] == "apu"


def test_log_loss():
    # four right at 0.7, two wrong with 0.15 for the right one: -(4 ln 0.7 + 2 ln 0.15) / 6
    # = (4 * 0.356675 + 2 * 1.897120) / 6 = 5.220940 / 6
    assert metrics.log_loss(ACTUAL, PROBABILITIES) == pytest.approx(0.870157, abs=1e-6)


def test_log_loss_stays_finite_where_the_right_character_has_probability_0():
    # clipped at 1e-7: -ln 1e-7 = 7 * 2.302585
    assert metrics.log_loss(np.array([1]), np.array([[1.0, 0.0]])) == pytest.approx(16.118096, abs=1e-5)


def test_log_loss_scales_rows_to_one():
    # 0.9 / 1.2 = 0.75, and -ln 0.75 = 0.287682
    assert metrics.log_loss(np.array([0]), np.array([[0.9, 0.3]])) == pytest.approx(0.287682, abs=1e-6)


# ---------------------------------------------------------------- intervals


def test_the_intervals_contain_the_scores():
    actual, probabilities, characters = simulated()
    summary = metrics.summary(given(actual, probabilities, characters))
    for score in ("accuracy", "macro_f1"):
        low, high = summary[f"{score}_interval"]
        assert 0 < low < summary[score] < high < 1


def test_the_interval_is_that_of_a_cluster_bootstrap(monkeypatch):
    monkeypatch.setattr(intervals, "RESAMPLES", 25)
    actual, probabilities, characters = simulated(num_pictures=120, num_characters=5)
    predicted = probabilities.argmax(axis=1)
    groups = np.random.default_rng(1).integers(40, size=120) + 1000
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    random, scores = np.random.default_rng(7), []
    for _ in range(25):
        drawn = np.concatenate([members[group] for group in random.integers(len(members), size=len(members))])
        present = np.unique(actual[drawn])
        scores.append(sklearn_metrics.f1_score(actual[drawn], predicted[drawn], labels=present, average="macro"))
    _, found = intervals.resampled_scores(given(actual, probabilities, characters, groups), seed=7)
    np.testing.assert_allclose(found, scores)


def test_the_same_seed_gives_the_same_interval():
    first, again, other = (metrics.summary(given(*simulated()), seed=seed) for seed in (3, 3, 4))
    assert first == again
    assert first["macro_f1_interval"] != other["macro_f1_interval"]


def test_larger_groups_widen_the_interval():
    # 400 answers in 40 groups, each all right or all wrong, have the information of 40 answers.
    groups = np.repeat(np.arange(40), 10)
    answers = given(np.zeros(400, int), np.eye(2)[(groups % 4 == 0).astype(int)], ["apu", "bart"])
    alone, grouped = (
        np.diff(intervals.percentile_interval(intervals.resampled_scores(each)[0]))
        for each in (answers, answers._replace(groups=groups))
    )
    # the standard error grows by the square root of 10, about 3.2
    assert 2.5 < (grouped / alone).item() < 4


# ---------------------------------------------------------------- confusion


def test_confusion_counts_rows_actual_columns_predicted():
    table = metrics.confusion(ACTUAL, PREDICTED, CHARACTERS)
    assert table.to_numpy().tolist() == [[2, 1, 0], [0, 2, 0], [1, 0, 0]]
    assert list(table.index) == list(table.columns) == CHARACTERS
    assert (table.index.name, table.columns.name) == ("actual", "predicted")


def test_most_confused_pairs():
    actual = np.array([0, 0, 0, 0, 1, 1, 2, 2])
    predicted = np.array([1, 1, 2, 0, 0, 1, 0, 2])
    table = metrics.most_confused(metrics.confusion(actual, predicted, CHARACTERS))
    # apu as bart 2 of 4; then single ones: bart as apu 1 of 2, carl as apu 1 of 2, apu as carl 1 of 4
    assert table.to_numpy().tolist() == [
        ["apu", "bart", 2, 0.5],
        ["bart", "apu", 1, 0.5],
        ["carl", "apu", 1, 0.5],
        ["apu", "carl", 1, 0.25],
    ]
    assert len(metrics.most_confused(metrics.confusion(actual, predicted, CHARACTERS), top=1)) == 1


def test_nothing_is_confused_when_all_is_right():
    table = metrics.most_confused(metrics.confusion(ACTUAL, ACTUAL, CHARACTERS))
    assert table.empty
    assert list(table) == ["actual", "predicted", "pictures", "fraction"]


# ---------------------------------------------------------------- predictions.csv


def written(tmp_path, **changes):
    paths = [f"a/{n},.jpg" for n in range(6)]
    table = metrics.predictions_table(given()._replace(**{"paths": paths} | changes))
    table.to_csv(tmp_path / "predictions.csv", index=False)
    return table, tmp_path / "predictions.csv"


def test_predictions_name_the_answer_and_its_probability(tmp_path):
    table, _ = written(tmp_path)
    assert list(table) == [
        *("path", "character", "predicted", "probability"),
        *("probability_apu", "probability_bart", "probability_carl"),
    ]
    assert table.loc[2, ["character", "predicted", "probability"]].tolist() == ["apu", "bart", 0.7]


def test_predictions_are_read_back_bit_for_bit(tmp_path):
    actual, probabilities, characters = simulated(num_pictures=200)
    groups, paths = np.arange(200) // 3, [f"{n}.jpg" for n in range(200)]
    arrays = {"actual": actual, "probabilities": probabilities, "groups": groups}
    _, path = written(tmp_path, paths=paths, characters=characters, **arrays)
    first = metrics.read_predictions(path)
    metrics.predictions_table(first).to_csv(path, index=False)
    again = metrics.read_predictions(path)
    np.testing.assert_array_equal(first.probabilities, again.probabilities)
    np.testing.assert_allclose(first.probabilities, probabilities, rtol=1e-5)
    np.testing.assert_array_equal(first.actual, actual)
    np.testing.assert_array_equal(first.groups, groups)
    assert (first.paths, first.characters) == (paths, characters)


def test_small_probabilities_keep_six_digits(tmp_path):
    _, path = written(tmp_path, paths=["x"], actual=[1], probabilities=[[1.0, 1.23456789e-12]], characters=["a", "b"])
    assert metrics.read_predictions(path).probabilities.tolist() == [[1.0, 1.23457e-12]]


def test_names_that_look_like_missing_values_are_names(tmp_path):
    _, path = written(tmp_path, characters=["NA", "None", "007"], paths=["1", "02", "nan", "", "a", "b"])
    predictions = metrics.read_predictions(path)
    assert predictions.characters == ["NA", "None", "007"]
    assert predictions.paths == ["1", "02", "nan", "", "a", "b"]
    np.testing.assert_array_equal(predictions.actual, ACTUAL)
    assert predictions.groups is None


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: "", "cannot be read"),
        (lambda text: "a,b\n1,2\n", "must have the columns path, character. Received: a, b"),
        (lambda text: text[: text.rindex(",")], "is damaged"),
        (None, "cannot be read"),
    ],
    ids=["empty", "another table", "cut off", "missing"],
)
def test_a_damaged_table_is_an_error_that_names_file_and_remedy(tmp_path, damage, message):
    _, path = written(tmp_path)
    if damage:
        path.write_text(damage(path.read_text()))
    else:
        path.unlink()
    with pytest.raises(UserError, match=rf"predictions\.csv .*{message}.*Evaluate the run again"):
        metrics.read_predictions(path)


# ---------------------------------------------------------------- history.csv


def test_the_history_keeps_all_its_columns(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("epoch,loss,accuracy,val_loss,val_accuracy,learning_rate\n1,2.5,0.1,2.0,0.25,0.01\n")
    history = metrics.read_history(path)
    assert history.to_dict("records") == [
        {"epoch": 1, "loss": 2.5, "accuracy": 0.1, "val_loss": 2.0, "val_accuracy": 0.25, "learning_rate": 0.01}
    ]


def test_a_training_without_validation_has_a_history_too(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("epoch,loss,accuracy\n1,2.5,0.1\n")
    assert metrics.read_history(path).to_dict("records") == [{"epoch": 1, "loss": 2.5, "accuracy": 0.1}]


@pytest.mark.parametrize("text", [None, "", "epoch,loss\n1,2\n"], ids=["missing", "empty", "another table"])
def test_a_damaged_history_is_an_error_that_names_file_and_remedy(tmp_path, text):
    path = tmp_path / "history.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=r"history\.csv .*train it again"):
        metrics.read_history(path)


# ---------------------------------------------------------------- ensembles


def predicted_by(probabilities, paths="abcd"):
    return metrics.Predictions(list(paths), np.array([0, 0, 1, 1]), np.array(probabilities), ["bart", "homer"], None)


def test_an_ensemble_averages_probabilities_and_counts_shared_errors():
    # a: both right; b: both wrong; c: one wrong and unsure, the mean right; d: one wrong and sure, the mean wrong.
    one = predicted_by([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.1, 0.9]])
    two = predicted_by([[0.8, 0.2], [0.4, 0.6], [0.1, 0.9], [1.0, 0.0]])
    found = metrics.ensemble_agreement([one, two])
    # The mean answers bart at a and d, homer at b and c: half of each is right.
    assert found == {
        **{"networks": 2, "test_pictures": 4, "mean_macro_f1": 0.5},
        **{"wrong_by_all": 1, "same_wrong_label": 1},
    }


def test_an_ensemble_of_one_counts_its_own_errors():
    alone = predicted_by([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.1, 0.9]])
    assert metrics.ensemble_agreement([alone])["wrong_by_all"] == 2


def test_different_wrong_labels_are_not_the_same_wrong_label():
    actual, names = np.array([0]), ["apu", "bart", "carl"]
    networks = [metrics.Predictions(["a"], actual, answers([label]), names, None) for label in (1, 2)]
    found = metrics.ensemble_agreement(networks)
    assert (found["wrong_by_all"], found["same_wrong_label"]) == (1, 0)


def test_the_probability_of_nobody_is_kept(tmp_path):
    probabilities = np.array([[0.6, 0.1], [0.0, 0.05]])  # .3 and .95 are nobody's
    table = metrics.predictions_table(given(np.array([0, 1]), probabilities, ["bart", "homer"]))
    assert table["nobody"].tolist() == pytest.approx([0.3, 0.95])
    table.to_csv(tmp_path / "predictions.csv", index=False)
    np.testing.assert_array_equal(metrics.read_predictions(tmp_path / "predictions.csv").probabilities, probabilities)


def test_a_network_that_knows_more_characters_is_also_scored_on_those_of_the_study():
    summary = metrics.summary(given(), frequent=CHARACTERS[:2])
    table = metrics.per_character(given()).set_index("character").f1[CHARACTERS[:2]]
    assert summary["frequent"] == {
        "characters": 2,
        "macro_f1": pytest.approx(table.mean()),
        "lowest_f1": table.min(),
        "lowest_character": table.idxmin(),
    }
    assert "frequent" not in metrics.summary(given(), frequent=CHARACTERS)


def test_a_character_of_the_study_without_pictures_has_no_score():
    of_apu = metrics.summary(given(ACTUAL[:3], PROBABILITIES[:3]), frequent=["apu", "carl"])["frequent"]
    assert (of_apu["characters"], of_apu["macro_f1"], of_apu["lowest_character"]) == (1, pytest.approx(0.8), "apu")
    assert "frequent" not in metrics.summary(given(ACTUAL[:3], PROBABILITIES[:3]), frequent=["carl"])
