import numpy as np
import pandas as pd
import pytest

from lib.evaluation import findings

HISTORY = pd.DataFrame(
    {"epoch": [1, 2], "accuracy": [0.5, 0.9], "val_accuracy": [0.6, 0.9], "val_macro_f1": [0.6, 0.91]}
)


def difference(run, below, low, high):
    return pd.DataFrame([(run, below, low, high)], columns=["run", "below_best", "low", "high"])


@pytest.mark.parametrize(
    ("losses", "says"),
    [
        ([0.5, 0.4], "does not rise again"),
        ([0.4, 0.404], "does not rise again"),
        ([0.4, 0.6], "is lowest in epoch 1 and 50 % higher at the end: from there on it overfits"),
    ],
)
def test_a_training_concludes_whether_it_overfits(losses, says):
    history = HISTORY.assign(val_loss=losses)
    text = findings.training("cnn4", history, 2, 216.0)
    assert "`cnn4` reaches macro F1 0.910 on validation, in epoch 2 of 2; the training took 3.6 min" in text
    assert says in text


def test_the_first_loss_is_compared_with_a_uniform_guess():
    assert "uniform guess ln 18 = 2.890: close" in findings.first_loss(3.6, 18)
    assert "off by more than 1" in findings.first_loss(4.0, 18)


def test_depth_is_answered_with_both_intervals():
    results = pd.DataFrame(
        {"run": ["cnn4-matched", "cnn6-matched"], "seconds": [1164, 2208], "num_parameters": [6_497_842, 5_531_698]}
    )
    gains = difference("cnn4-matched", 0.034, 0.019, 0.049), difference("cnn4", 0.002, -0.013, 0.018)
    gains += (pd.concat([difference("cnn6-matched", 0.0, 0.0, 0.0), difference("cnn4", 0.027, 0.012, 0.042)]),)
    text = findings.depth(*gains, results)
    assert "Six layers gain 0.034 (0.019 to 0.049) by one recipe for both, and gain 0.002 (-0.013 to 0.018)" in text
    assert (
        "With one recipe the deeper network is better. With the original recipes these pictures do not settle it"
        in text
    )
    assert "Each by the recipe that is better on validation, they gain 0.027 (0.012 to 0.042)." in text
    assert "36.8 minutes of training instead of 19.4, and have 5.5 million parameters instead of 6.5" in text


def test_depth_is_not_answered_by_runs_on_different_pictures():
    nothing = difference("cnn4", np.nan, np.nan, np.nan)
    text = findings.depth(difference("cnn4-matched", 0.034, 0.019, 0.049), nothing, nothing, pd.DataFrame())
    assert "`cnn4` and `cnn6` were tested on different pictures" in text and "nan" not in text


def test_a_threshold_says_what_it_answers():
    known, right = np.array([True, True, False, True]), np.array([True, False, False, True])
    text = findings.confidence(0.6, known, right)
    assert text == "At the threshold 0.60, 75.0 % of the pictures are answered, and 66.7 % of these answers are right."


def test_a_preparation_names_the_splits_that_leak():
    table = pd.DataFrame(
        {"character": ["a", "a", "b", "b"], "split": ["train", "test", "train", ""], "group": [0, 0, 1, 2]}
    )
    text = findings.preparation(table, {"test": np.array([True])})
    assert "2 characters with 1 to 2 pictures each; 1 picture cannot be used. 66.7 %" in text
    assert "100.0 % of test have one in train" in text
    assert "none of those" in findings.preparation(table, {"test": np.array([False])})


def test_an_evaluation_names_the_most_frequent_mistake():
    scores = {"accuracy": 0.9, "macro_f1": 0.88, "macro_f1_interval": [0.8, 0.93], "test_pictures": 1200}
    mistakes = pd.DataFrame([("bart_simpson", "lisa_simpson", 3)], columns=["actual", "predicted", "pictures"])
    text = findings.evaluation("cnn4", scores, mistakes, "")
    assert "right on 90.0 % of 1,200 unseen pictures; its macro F1 is 0.880 (95 % interval 0.800 to 0.930)" in text
    assert "Bart Simpson as Lisa Simpson (3 pictures)" in text
    assert "no mistake" in findings.evaluation("cnn4", scores, mistakes[:0], "")
    once = mistakes.assign(pictures=1)
    assert "Bart Simpson as Lisa Simpson (1 picture)" in findings.evaluation("cnn4", scores, once, "")
    assert "No two of its mistakes are alike." in findings.evaluation("cnn4", scores, pd.concat([once, once]), "")


def test_a_comparison_names_the_runs_that_are_not_distinguished():
    table = pd.concat(
        [difference("best", 0, 0, 0), difference("a", 0.01, -0.01, 0.03), difference("b", 0.1, 0.08, 0.12)]
    )
    assert "do not distinguish it from `a`." in findings.differences(table, "best")
    assert "higher than every other run" in findings.differences(table[table.run != "a"], "best")


def test_each_question_of_the_comparison_has_an_answer():
    table = pd.DataFrame({"baseline": ["most frequent", "nearest"], "macro_f1": [0.01, 0.44]})
    assert findings.baselines(table) == "**Found:** Without training, macro F1 is 0.440 at best (nearest)."
    table = pd.DataFrame({"recipe": ["a", "a", "b", "b"], "macro_f1": [0.9, 0.92, 0.5, 0.4]})
    assert findings.seeds(table).endswith(
        "`a` have macro F1 0.900 to 0.920. 2 seeds of `b` have macro F1 0.400 to 0.500."
    )
    table = pd.DataFrame({"macro_f1": [0.9, 0.8], "reviewed_macro_f1": [0.91, 0.8]})
    assert "changes by +0.000 to +0.010; the order of the runs stays" in findings.reviewed(table)
    assert "order of the runs changes" in findings.reviewed(table.assign(reviewed_macro_f1=[0.7, 0.8]))
    table = pd.DataFrame({"run": ["a", "base", "base-seed-1", "b"], "val_macro_f1": [0.92, 0.9, 0.89, 0.895]})
    found = findings.ablation(table, "accuracy", 0.006, 3)
    assert "Of the changes of `accuracy/base`, `a` (+0.020) scores best and `b` (-0.005) worst on validation" in found
    assert "; 1 of 2 change no more than another seed may" in found
    assert found.endswith(": by 3 trainings, 95 % of two seeds of a base differ by less than 0.006.")
    assert findings.ablation(table, "accuracy", None, 0).endswith("; one seed each.")
    assert findings.ablation(table[1:3], "accuracy", None, 0) == ""


def test_robustness_names_the_hardest_and_the_easiest_corruption():
    rows = [("unchanged", "", 0.9), ("jpeg_quality", "strong", 0.5), ("rotation", "strong", 0.7)]
    text = findings.robustness("cnn4", pd.DataFrame(rows, columns=["kind", "strength", "macro_f1"]))
    assert "falls from 0.900 on unchanged pictures to 0.600" in text
    assert "The hardest is jpeg quality (0.500), the easiest rotation (0.700)" in text


def test_a_loss_is_no_fall_where_nothing_falls():
    rows = [("unchanged", "", 0.1), ("jpeg_quality", "strong", 0.2)]
    text = findings.robustness("cnn4", pd.DataFrame(rows, columns=["kind", "strength", "macro_f1"]))
    assert "does not fall from 0.100 on unchanged pictures to 0.200" in text


@pytest.mark.parametrize(
    ("low", "high", "says"),
    [(-0.08, -0.02, "more than"), (-0.01, 0.02, "no more than"), (0.01, 0.02, "more than")],
)
def test_a_gain_is_more_than_the_choice_of_pictures_where_its_interval_excludes_zero(low, high, says):
    (row,) = pd.DataFrame({"gain": [(low + high) / 2], "low": [low], "high": [high]}).itertuples()
    assert findings._gain(row).endswith(f"), {says} the choice of test pictures could give")
