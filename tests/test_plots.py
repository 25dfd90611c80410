import os
import subprocess
import sys
import warnings

import matplotlib
import numpy as np
import pandas as pd
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager, pyplot
from matplotlib.colors import to_rgb
from matplotlib.text import Text

from lib import paths
from lib.data.preparation import Preparation
from lib.evaluation import data_plots, metrics, plots, run_plots, score_plots, training_plots
from lib.evaluation.occlusion import Occlusion

PNG = b"\x89PNG\r\n\x1a\n"
CHARACTERS = [
    *("abraham_grampa_simpson", "apu_nahasapeemapetilon", "bart_simpson", "charles_montgomery_burns"),
    *("chief_wiggum", "comic_book_guy", "edna_krabappel", "homer_simpson", "kent_brockman", "krusty_the_clown"),
    *("lenny_leonard", "lisa_simpson", "marge_simpson", "milhouse_van_houten", "moe_szyslak", "ned_flanders"),
    *("nelson_muntz", "principal_skinner"),
]
TWO = ["homer_simpson", "bart_simpson"]
LONG = [
    "the_very_long_named_character_of_the_thirty_second_season_premiere",
    "bob",
    r"$\frac_$",
]  # the last is no formula
MANY = [f"character_number_{n}" for n in range(42)]
LONG_RUN = "springfield-18-learning_rate-0.001-seed-1"
RUNS = ("cnn4", "cnn6")


def labels(characters, num_pictures=300, seed=0):
    """Actual and predicted labels, about nine in ten equal, and the probability of the answer."""
    random = np.random.default_rng(seed)
    actual = random.integers(len(characters), size=num_pictures)
    predicted = np.where(random.random(num_pictures) < 0.9, actual, random.integers(len(characters), size=num_pictures))
    return actual, predicted, random.uniform(0.3, 1, size=num_pictures)


def pictures(number, height=8, width=8):
    return np.random.default_rng(0).integers(256, size=(number, height, width, 3), dtype=np.uint8)


def history(epochs):
    epoch = np.arange(1, epochs + 1)
    falling, rising = np.exp(-epoch / 10), 1 - np.exp(-epoch / 10)
    return pd.DataFrame(
        {"epoch": epoch, "loss": falling, "accuracy": rising, "val_loss": falling, "val_accuracy": rising}
    ).assign(val_macro_f1=rising, learning_rate=0.01)


def confusion(characters):
    actual, predicted, _ = labels(characters)
    return metrics.confusion(actual, predicted, characters)


def scores(characters):
    actual, predicted, _ = labels(characters)
    return metrics.per_character(metrics.Predictions([], actual, np.eye(len(characters))[predicted], characters))


def counts(characters):
    splits = {"train": 700, "validation": 150, "test": 150, "kaggle_test": 0}
    return pd.DataFrame(splits, index=characters).mul(np.arange(1, len(characters) + 1), axis=0)


def answers(characters, actual, predicted, probability):
    """Answers with these probabilities; all others are 0."""
    probabilities = np.eye(len(characters))[predicted] * np.reshape(probability, (-1, 1))
    return metrics.Predictions([""] * len(actual), np.array(actual), probabilities, characters)


def grid(characters, number):
    return plots.prediction_grid(pictures(number), answers(characters, *labels(characters)).at(np.arange(number)))


def worst(characters):
    return plots.worst_mistakes(pictures(300), answers(characters, *labels(characters)))


def runs(number):
    names = ["cnn4", "cnn6", "cnn4-matched", "cnn6-matched", "springfield", "a-run-with-quite-a-long-name-of-its-own"]
    rows = [
        (names[n % 6] + "-b" * (n // 6), (4, 6, 4, 6, 21, 9)[n % 6], 10 ** (3 + n % 5), 1 + n, 7 * 4.0**n, 0.9 - n / 50)
        for n in range(number)
    ]
    table = pd.DataFrame(rows, columns=["run", "conv_layers", "num_parameters", "epochs", "seconds", "macro_f1"])
    table = table.assign(macro_f1_low=table.macro_f1 - 0.02, macro_f1_high=table.macro_f1 + 0.01)
    return table.assign(near_duplicates_in_train=None, test_pictures=2586, num_characters=18)


def corruptions():
    kinds = ["jpeg_quality", "rotation", "figure on a busy background"]
    rows = [(kind, strength, 0.9 - n / 10) for kind in kinds for n, strength in enumerate(["slight", "strong"])]
    return pd.DataFrame(rows[:-1], columns=["kind", "strength", "macro_f1"])


def differences(number):
    rows = [(f"run-{n}", n / 50, n / 50 - 0.01, n / 50 + 0.02) for n in range(number)]
    return pd.DataFrame(rows, columns=["run", "below_best", "low", "high"])


def curves(number, epochs=40):
    tables = [history(epochs).assign(run=f"run-{n}", minutes=np.arange(1, epochs + 1) * (n + 1)) for n in range(number)]
    return pd.concat(tables, ignore_index=True)


def layer_table(number):
    rows = [
        (f"convolution 3×3, stride {n}", 64 >> n // 4, 64 >> n // 4, 32 << n // 4, 10 ** (n % 7)) for n in range(number)
    ]
    table = pd.DataFrame(rows, columns=["layer", "height", "width", "channels", "parameters"])
    return table.assign(compute=1 / number)


def ablations(number):
    rows = [("base", 0.9), *((f"no-choice-{n}", 0.88 + n / 100) for n in range(number))]
    return pd.DataFrame(rows, columns=["run", "val_macro_f1"])


def calibrated(number):
    confidence = np.linspace(0.2, 1, number)
    table = pd.DataFrame({"confidence": confidence, "accuracy": confidence**2, "answers": np.arange(1, number + 1)})
    curve = pd.DataFrame({"threshold": [0.9, 0.5], "coverage": [0.8, 1.0], "accuracy": [0.99, 0.95]})
    lines = {"as it answers, ECE 0.058": table, "with temperature 0.47, ECE 0.030": table}
    return score_plots.calibration(lines, curve, threshold=0.55)


def looked(number):
    found = [Occlusion(n % 2, 0.9, 0.1, np.eye(8, dtype=np.float32)) for n in range(number)]
    return score_plots.where_it_looked(pictures(number), [0] * number, found, TWO)


def with_unchanged():
    return pd.concat([pd.DataFrame({"kind": ["unchanged"], "strength": [""], "macro_f1": [0.95]}), corruptions()])


def seen(characters):
    """Give a frame a second, in which the characters take turns, two at a time."""
    shown = [[*characters[second // 9 % len(characters) :]][:2] if characters else [] for second in range(900)]
    return pd.DataFrame({"time": np.arange(900.0), "characters": shown})


FIGURES = {
    "timeline": lambda: score_plots.timeline(seen(MANY), "episode.mp4"),
    "timeline of nobody": lambda: score_plots.timeline(seen([]), "a very long name of a video.mp4"),
    "forest of 8": lambda: run_plots.forest(differences(9), "run-0"),
    "forest of 1": lambda: run_plots.forest(differences(2), "run-0"),
    "forest, long names": lambda: run_plots.forest(
        differences(3).assign(run=[LONG_RUN, f"{LONG_RUN}-b", "c"]), LONG_RUN
    ),
    "curves of 7": lambda: run_plots.curves_over_each_other(curves(7), 0.9, "target"),
    "curves of 1": lambda: run_plots.curves_over_each_other(curves(1, epochs=2), 0.9, "target"),
    "ablation": lambda: run_plots.ablation(ablations(5), "accuracy", noise=0.004),
    "ablation of 1": lambda: run_plots.ablation(ablations(1), "ablation"),
    "by frames": lambda: run_plots.by_frames(
        pd.DataFrame({"train_pictures": [2_778, 5_556, 7_779, 11_113], "mistakes": [0.18, 0.13, 0.11, 0.09]}),
        *({"all": (5.0, -0.43), "all but the smallest": (2.0, -0.33)}, 15_885),
    ),
    "robustness of two": lambda: run_plots.robustness_of_two({run: with_unchanged() for run in RUNS}),
    "network of 20 layers": lambda: training_plots.network(layer_table(20)),
    "network of 2 layers": lambda: training_plots.network(layer_table(2)),
    "learning rates": lambda: training_plots.learning_rates(
        pd.DataFrame({"epoch": np.arange(40), "learning_rate": np.linspace(0.01, 0, 40)})
    ),
    "learning rates in steps": lambda: training_plots.learning_rates(
        pd.DataFrame({"epoch": np.arange(40), "learning_rate": [0.01] * 20 + [0.001] * 20})
    ),
    "calibration": lambda: calibrated(8),
    "f1 by pictures": lambda: score_plots.f1_by_pictures(scores(CHARACTERS).assign(train=np.arange(18) * 100)),
    "f1 by pictures, long names": lambda: score_plots.f1_by_pictures(scores(LONG).assign(train=[1, 2, 3])),
    "where it looked": lambda: looked(7),
    "shapes": lambda: data_plots.shapes(pd.DataFrame({"width": [320, 200, 100], "height": [180, 200, 400]})),
    "learning curves": lambda: plots.learning_curves(history(40), best_epoch=32),
    "learning curves without validation": lambda: plots.learning_curves(history(9)[["epoch", "loss", "accuracy"]]),
    "learning curves of one epoch": lambda: plots.learning_curves(history(1)),
    "learning curves, diverged": lambda: plots.learning_curves(history(5).assign(loss=np.nan, val_loss=np.nan)),
    "confusion of 18": lambda: plots.confusion_matrix(confusion(CHARACTERS)),
    "confusion of 2": lambda: plots.confusion_matrix(confusion(TWO)),
    "confusion of 42": lambda: plots.confusion_matrix(confusion(MANY)),
    "confusion, long names": lambda: plots.confusion_matrix(confusion(LONG)),
    "scores of 18": lambda: plots.per_character_scores(scores(CHARACTERS)),
    "scores of 2": lambda: plots.per_character_scores(scores(TWO)),
    "scores, long names": lambda: plots.per_character_scores(scores(LONG)),
    "counts of 18": lambda: plots.counts_bar(counts(CHARACTERS)),
    "counts, long names": lambda: plots.counts_bar(counts(LONG)),
    "grid of 12": lambda: grid(CHARACTERS, 12),
    "grid of 5": lambda: grid(CHARACTERS, 5),
    "grid of 1": lambda: grid(TWO, 1),
    "grid, long names": lambda: grid(LONG, 6),
    "worst mistakes": lambda: worst(CHARACTERS),
    "pictures": lambda: plots.picture_grid(pictures(7), ["a/long_path_to_a/pic_0001.jpg: exact copy"] * 7, heading="x"),
    "pictures without titles": lambda: plots.picture_grid(pictures(3)),
    "pictures of any shape": lambda: plots.picture_grid([pictures(1, 9, 4)[0], pictures(1, 4, 9)[0]], ["a\nb", ""]),
    "comparison of 10": lambda: plots.comparison(runs(10)),
    "comparison of 1": lambda: plots.comparison(runs(1)),
    "comparison with near-duplicates": lambda: plots.comparison(runs(3).assign(near_duplicates_in_train=[0, 9, 1634])),
    "robustness": lambda: plots.robustness(with_unchanged()),
}


@pytest.fixture
def drawn(monkeypatch):
    """A function that draws a figure and returns every text that was drawn."""
    texts = {}
    draw = Text.draw

    def note(text, renderer):
        if text.get_visible() and text.get_text().strip():
            texts[id(text)] = text
        draw(text, renderer)

    monkeypatch.setattr(Text, "draw", note)

    def draw_figure(figure):
        texts.clear()
        figure.draw_without_rendering()
        return list(texts.values())

    return draw_figure


@pytest.fixture
def stand_in_font(tmp_path, monkeypatch):
    """Install a font that has the letter ゴ alone; returns the name of its family."""
    family, path = "Stand-In", tmp_path / "stand-in.ttf"
    builder = FontBuilder(1000)
    builder.setupGlyphOrder([".notdef", "go"])
    builder.setupCharacterMap({ord("ゴ"): "go"})
    builder.setupGlyf({name: TTGlyphPen(None).glyph() for name in (".notdef", "go")})
    builder.setupHorizontalMetrics({name: (500, 0) for name in (".notdef", "go")})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    default = [font for font in font_manager.fontManager.ttflist if font.name == plots.FONT]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", default)
    font_manager.fontManager.addfont(path)
    plots._families_with.cache_clear()
    yield family
    plots._families_with.cache_clear()


def written(texts):
    return " | ".join(text.get_text().replace("\n", " ") for text in texts)


# ---------------------------------------------------------------- every figure


@pytest.mark.parametrize("name", FIGURES)
def test_no_text_is_cut_off_or_overlaps_and_nothing_warns(name, drawn):
    with warnings.catch_warnings(action="error"):
        figure = FIGURES[name]()
        texts = drawn(figure)
    width, height = figure.bbox.size
    boxes = {text: text.get_window_extent() for text in texts}
    cut = [t.get_text() for t, b in boxes.items() if b.x0 < 0 or b.y0 < 0 or b.x1 > width or b.y1 > height]
    assert not cut
    # Boxes of slanted names overlap where the names do not.
    upright = [(t, b.padded(-1)) for t, b in boxes.items() if t.get_rotation() == 0]
    pairs = ((one, other) for n, one in enumerate(upright) for other in upright[:n])
    assert not [(one.get_text(), other.get_text()) for (one, a), (other, b) in pairs if a.overlaps(b)]


@pytest.mark.parametrize("name", ["confusion of 18", "robustness", "worst mistakes"])
def test_pyplot_does_not_keep_a_figure(name):
    before = dict(matplotlib.rcParams)
    FIGURES[name]()
    assert pyplot.get_fignums() == []
    assert dict(matplotlib.rcParams) == before


def test_the_style_does_not_depend_on_that_of_the_notebook():
    expected = FIGURES["learning curves"]()._repr_png_()
    with matplotlib.rc_context({"font.size": 30, "xtick.labelsize": 30, "text.color": "red", "axes.grid": True}):
        assert FIGURES["learning curves"]()._repr_png_() == expected


def test_a_notebook_gets_a_picture_about_900_pixels_wide():
    contents = FIGURES["grid of 1"]()._repr_png_()
    assert contents.startswith(PNG)
    assert int.from_bytes(contents[16:20]) == 900


def test_save_writes_the_figure(tmp_path):
    plots.save(FIGURES["grid of 1"](), tmp_path / "figures" / "grid.png")
    assert (tmp_path / "figures" / "grid.png").read_bytes().startswith(PNG)
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["grid.png"]


def test_a_failed_save_leaves_what_was_there(tmp_path):
    path = tmp_path / "figure.nothing"
    path.write_text("before")
    with pytest.raises(ValueError, match="nothing"):
        plots.save(FIGURES["grid of 1"](), path)
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("figure.nothing", "before")]


# ---------------------------------------------------------------- single figures


def test_learning_curves_mark_the_kept_epoch(drawn):
    figure = FIGURES["learning curves"]()
    assert "epoch 32, kept" in written(drawn(figure))
    dashed = [line for axes in figure.axes for line in axes.lines if line.get_linestyle() == "--"]
    assert [line.get_xdata()[0] for line in dashed] == [32, 32]


def test_confusion_matrix_has_every_name_twice_and_blank_zeros(drawn):
    table = confusion(CHARACTERS)
    texts = [text.get_text() for text in drawn(plots.confusion_matrix(table))]
    for name in ("Krusty the Clown", "Charles Montgomery Burns"):
        assert texts.count(name) == 2
    numbers = [int(text) for text in texts if text.isdigit()]
    assert sorted(numbers) == sorted(table.to_numpy()[table.to_numpy() > 0])


def test_confusion_matrix_is_coloured_by_the_fraction_of_the_row():
    table = pd.DataFrame([[3, 1], [0, 0]], index=TWO, columns=TWO)
    mesh = plots.confusion_matrix(table).axes[0].collections[0]
    assert mesh.get_array().filled(-1).tolist() == [[0.75, 0.25], [-1, -1]]


def test_scores_are_sorted_with_characters_without_pictures_last(drawn):
    table = pd.DataFrame({"character": ["a", "b", "c"], "f1": [0.0, 0.25, 0.75], "support": [0, 1200, 1]})
    figure = plots.per_character_scores(table)
    text = written(drawn(figure))
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["C", "B", "A"]
    assert "1,200" in text
    assert "macro F1 0.500" in text  # (0.25 + 0.75) / 2


def test_prediction_grid_marks_right_and_wrong_by_a_sign(drawn):
    figure = plots.prediction_grid(pictures(2), answers(TWO, [0, 0], [0, 1], [0.98, 0.514]))
    texts = [text.get_text() for text in drawn(figure)]
    assert "✓ Homer Simpson 98%" in texts
    assert "✗ Bart Simpson 51%" in texts
    assert texts.count("Homer Simpson") == 2


def test_worst_mistakes_are_the_most_confident_wrong_answers(drawn, monkeypatch):
    monkeypatch.setattr(plots, "WORST", 2)
    figure = plots.worst_mistakes(pictures(4), answers(TWO, [0, 0, 1, 1], [0, 1, 0, 0], [1, 0.4, 0.9, 0.6]))
    text = written(drawn(figure))
    assert "2 most confident of 3 mistakes among 4 pictures" in text
    assert text.index("✗ Homer Simpson 90%") < text.index("✗ Homer Simpson 60%")
    assert "40%" not in text


def test_picture_grid_shows_titles_as_they_are(drawn):
    figure = plots.picture_grid(pictures(2), ["raw/pic_$1.jpg", "exact copy of $2"])
    assert written(drawn(figure)) == "raw/pic_$1.jpg | exact copy of $2"


def test_comparison_keeps_the_order_of_the_table(drawn):
    figure = plots.comparison(runs(2)[::-1])
    text = written(drawn(figure))
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["cnn6", "cnn4"]
    for part in (
        "0.900",
        "0.880",
        "7 s",
        "28 s",
        "4 convolutional layers",
        "95% interval",
        "1,000 parameters, 1 epoch",
    ):
        assert part in text


def test_comparison_counts_near_duplicates_in_train(drawn):
    figure = plots.comparison(runs(2).assign(near_duplicates_in_train=[0, 1634]))
    assert written(drawn(figure)).count("near-duplicates in train: 1,634 of 2,586") == 1


def test_comparison_says_how_many_characters_are_known_where_that_differs(drawn):
    assert "characters" not in written(drawn(plots.comparison(runs(2))))
    assert "1 epoch, 38 characters" in written(drawn(plots.comparison(runs(2).assign(num_characters=[38, 18]))))


def test_comparison_does_not_draw_missing_values(drawn):
    table = runs(2).assign(seconds=[np.nan, 90.0], macro_f1_low=None, macro_f1_high=None)
    text = written(drawn(plots.comparison(table)))
    assert "interval" not in text
    assert "1.5 min" in text


def test_counts_are_stacked_with_their_total(drawn):
    table = pd.DataFrame({"train": [2, 1400], "test": [1, 300]}, index=TWO)
    figure = plots.counts_bar(table)
    text = written(drawn(figure))
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["Bart Simpson", "Homer Simpson"]
    assert "1,700" in text and "train" in text and "test" in text
    assert [bar.get_x() for bar in figure.axes[0].containers[1]] == [1400, 2]


def test_robustness_begins_with_the_unchanged_pictures_and_keeps_the_order_of_the_table(drawn):
    figure = FIGURES["robustness"]()
    text = written(drawn(figure))
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [
        *("unchanged", "jpeg quality", "rotation", "figure on a busy background")
    ]
    assert text.count("0.950") == 2  # once for each strength
    assert text.count("0.900") == 3 and text.count("0.800") == 2  # the third kind has no strong change


def test_scores_of_a_good_network_fill_the_axis():
    table = pd.DataFrame({"character": TWO, "f1": [0.94, 0.98], "support": [9, 9]})
    low, high = plots.per_character_scores(table).axes[0].get_xlim()
    assert 0.85 <= low < 0.94 and high < 1.01


def test_a_forest_is_hollow_where_the_interval_contains_zero():
    table = pd.DataFrame(
        [("best", 0.0, 0.0, 0.0), ("same", 0.01, -0.01, 0.03), ("worse", 0.1, 0.05, 0.15)],
        columns=["run", "below_best", "low", "high"],
    )
    axes = run_plots.forest(table, "best").axes[0]
    faces = [line.get_markerfacecolor() for line in axes.lines if line.get_marker() == "o"]
    assert faces == ["white", plots.BLUE]


def test_every_colour_of_the_palette_is_seen_on_white():
    rgb = np.array([to_rgb(colour) for colour in plots.PALETTE])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    contrast = 1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05)  # as WCAG 2.2 defines it
    assert contrast.min() > 1.9, dict(zip(plots.PALETTE, contrast, strict=True))  # a yellow line has 1.3


def test_no_line_crosses_out_a_number():
    axes = run_plots.forest(differences(3), "run-0").axes[0]
    (zero,) = (line for line in axes.lines if line.get_linestyle() == "--")
    points = [line for line in axes.lines if line.get_marker() == "o"]
    for number in axes.texts:
        assert number.get_bbox_patch().get_facecolor() == (1, 1, 1, 1)
        assert zero.get_zorder() < number.get_zorder() < min(point.get_zorder() for point in points)


def test_two_runs_have_the_same_colours_in_either_order():
    figures = [run_plots.robustness_of_two(dict.fromkeys(pair, with_unchanged())) for pair in (RUNS, RUNS[::-1])]
    colours = [{line.get_label(): line.get_color() for line in figure.axes[0].lines} for figure in figures]
    assert colours[0] == colours[1] == {"cnn4": plots.BLUE, "cnn6": plots.ORANGE}


def test_a_name_at_a_point_counts_those_that_share_it(drawn):
    table = pd.DataFrame({"character": ["bart", "lisa", "homer", "marge"], "f1": [0.9, 0.9, 0.9, 1.0], "train": 34})
    assert "Bart and 2 more" in written(drawn(score_plots.f1_by_pictures(table)))


def test_of_points_at_one_height_the_one_whose_name_crosses_no_other_is_named(drawn):
    table = pd.DataFrame({"character": ["bart", "lisa", "homer"], "f1": [0.8, 0.8, 1.0], "train": [10, 30, 100]})
    text = written(drawn(score_plots.f1_by_pictures(table)))
    assert "Lisa" in text and "Bart" not in text  # Bart's name, to the right of his point, would cover Lisa's


def test_pairs_at_the_limit_are_the_nearest_to_it_on_both_sides():
    base = np.random.default_rng(0).integers(0, 200, (16, 16, 3), np.uint8).repeat(4, axis=0).repeat(4, axis=1)
    other = np.random.default_rng(1).integers(0, 200, (16, 16, 3), np.uint8).repeat(4, axis=0).repeat(4, axis=1)
    images = np.stack([base, base + np.uint8(10), other])
    shown, titles = data_plots.pairs_at_the_limit(images, np.arange(len(images)), number=1)
    assert len(shown) == 4
    assert titles[0].startswith("inside: ") and titles[0].endswith("bits,\n10 grey levels")
    assert titles[2].startswith("outside: ")
    _, titles = data_plots.pairs_at_the_limit(images, np.arange(len(images)), Preparation(near_rms=255, near_bits=255))
    assert [title.startswith("inside: ") for title in titles[::2]] == [True] * 3  # by the limits that were chosen


# ---------------------------------------------------------------- fonts


def test_letters_that_the_default_font_lacks_come_from_another_font(drawn, stand_in_font):
    counts = pd.DataFrame({"train": [2, 3]}, index=["ゴ", "homer"])
    names = drawn(plots.counts_bar(counts))
    assert [name.get_fontfamily() for name in names if name.get_text() == "ゴ"] == [[plots.FONT, stand_in_font]]
    assert [name.get_fontfamily() for name in names if name.get_text() == "Homer"] == [[plots.FONT]]


def test_letters_without_any_font_are_named(drawn, stand_in_font):
    with pytest.warns(UserWarning, match="HANGUL SYLLABLE HO.* missing from font"):
        drawn(plots.counts_bar(pd.DataFrame({"train": [2, 3]}, index=["ゴ", "호"])))


@pytest.mark.parametrize(("own", "used"), [("Qt4Agg", ""), ("module://matplotlib_inline.backend_inline", "inline")])
def test_a_backend_of_the_users_own_is_not_used_and_that_of_a_notebook_stays(own, used):
    code = "import os, lib, matplotlib; print(os.environ.get('MPLBACKEND', '').removeprefix('module://matplotlib_'))"
    environment = os.environ | {"MPLBACKEND": own, "PYTHONPATH": str(paths.ROOT)}
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.partition(".")[0].strip() == used


def test_every_run_has_a_curve_of_its_own():
    axes = run_plots.curves_over_each_other(curves(9), 0.9, "target").axes[0]
    looks = {(line.get_color(), line.get_linestyle()) for line in axes.get_lines()}
    assert len(axes.get_lines()) == len(looks) == 10  # with the target


def test_a_grid_of_no_picture_says_so():
    assert [text.get_text() for text in plots.picture_grid([], []).axes[0].texts] == ["There is nothing to show."]
