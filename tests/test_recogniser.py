"""A run folder and the bytes of a picture → the name of a character."""

import hashlib
import itertools
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from lib import paths
from lib.data import pictures
from lib.errors import UserError
from lib.inference import recogniser
from lib.inference.recogniser import Recogniser
from tests import small_model
from tests.patience import PATIENCE

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)  # homer_simpson, krusty_the_clown, marge_simpson


@pytest.fixture
def run_dir(tmp_path):
    return small_model.write_run(tmp_path / "outputs" / "sample" / "small")


@pytest.fixture
def small(run_dir):
    return Recogniser.load(run_dir)


# ---------------------------------------------------------------- answers


@pytest.mark.parametrize(
    ("colour", "name"), [(RED, "Homer Simpson"), (GREEN, "Krusty the Clown"), (BLUE, "Marge Simpson")]
)
def test_the_character_is_named(small, colour, name):
    assert small.predict(small_model.picture(colour)).name == name


def test_an_answer_holds_the_most_probable_characters_in_order(small):
    answer = small.predict(small_model.picture((250, 120, 0)), top=2)
    assert [guess.character for guess in answer.all] == ["homer_simpson", "krusty_the_clown", "marge_simpson"]
    assert answer.top == answer.all[:2]
    assert (answer.character, answer.name, answer.probability) == answer.top[0]
    assert sum(guess.probability for guess in answer.all) == pytest.approx(1)


def test_probabilities_are_those_of_the_network(small):
    # Mean colour (1, .5, 0); |mean - colour|²: red 0 + .25 + 0, green 1 + .25 + 0, blue 1 + .25 + 1; times -10.
    exponentials = np.exp([-2.5, -12.5, -22.5])
    answer = small.predict(small_model.picture((255, 128, 0)))
    assert answer.probability == pytest.approx(exponentials[0] / exponentials.sum(), abs=1e-3)


def test_low_confidence_answers_are_averaged_with_those_of_the_mirrored_picture(tmp_path, monkeypatch):
    def by_the_left_half(_, picture):
        probability = picture[:, :8, 0].mean() / 255
        return np.array([probability, 1 - probability, 0], np.float32), None

    monkeypatch.setattr(recogniser._Network, "__call__", by_the_left_half)
    confident, uncertain = np.zeros((2, 16, 16, 3), np.uint8)
    confident[:, :8], uncertain[:, :8] = 255 * 9 // 10, 255 * 7 // 10  # the right halves are black: 0
    both = np.stack([confident, uncertain])
    plain = Recogniser.load(small_model.write_run(tmp_path / "plain"))
    np.testing.assert_allclose(plain.predict_pixels(both)[:, 0], [0.9, 0.7], atol=0.005)
    averaged = Recogniser.load(small_model.write_run(tmp_path / "averaged", metadata={"flip_tta_threshold": 0.8}))
    np.testing.assert_allclose(averaged.predict_pixels(both)[:, 0], [0.9, 0.35], atol=0.005)


def test_pictures_are_decoded_as_in_training(small):
    contents = small_model.picture((200, 90, 10), width=300, height=70)
    pixels = pictures.decode(contents, small.picture_size, small.resize_mode)[np.newaxis]
    expected = small.predict_pixels(pixels)[0]
    answer = small.predict(contents)
    assert {g.character: g.probability for g in answer.all} == dict(zip(small.characters, expected, strict=True))


def test_bytes_that_are_not_a_picture_are_rejected(small):
    with pytest.raises(pictures.UnreadablePicture):
        small.predict(b"<!doctype html>")


def test_a_file_is_read(small, tmp_path):
    (tmp_path / "homer.png").write_bytes(small_model.picture(RED))
    assert small.predict(recogniser.read_file(tmp_path / "homer.png")).character == "homer_simpson"


# ---------------------------------------------------------------- many pictures


def test_answers_and_errors_are_in_the_order_of_the_pictures(small, tmp_path):
    (tmp_path / "marge.png").write_bytes(small_model.picture(BLUE))
    items = [small_model.picture(RED), b"", tmp_path / "marge.png", tmp_path / "missing.png"] * 10
    answers = list(
        small.predict_many(items, lambda item: item if isinstance(item, bytes) else recogniser.read_file(item))
    )
    kinds = [type(answer) if isinstance(answer, UserError) else answer.character for answer in answers]
    assert kinds == ["homer_simpson", pictures.UnreadablePicture, "marge_simpson", UserError] * 10


def test_pictures_may_be_endless(small):
    answers = small.predict_many(itertools.repeat(small_model.picture(GREEN)), bytes)
    assert [answer.character for answer in itertools.islice(answers, 50)] == ["krusty_the_clown"] * 50


def test_more_pictures_are_read_at_a_time_than_are_named(small):
    together = threading.Barrier(recogniser.READERS, timeout=PATIENCE)

    def read(contents):
        together.wait()  # an address answers slowly
        return contents

    answers = small.predict_many([small_model.picture(RED)] * recogniser.READERS, read, at_once=1)
    assert [answer.character for answer in answers] == ["homer_simpson"] * recogniser.READERS


def test_an_unexpected_error_is_raised(small):
    def read(item):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(small.predict_many([1], read))


def test_an_answer_does_not_depend_on_its_neighbours(small):
    pixels = np.random.default_rng(0).integers(0, 256, (100, 16, 16, 3), np.uint8)
    one_by_one = np.concatenate([small.predict_pixels(pixels[i : i + 1]) for i in range(100)])
    assert np.array_equal(small.predict_pixels(pixels), one_by_one)


def test_threads_get_the_same_answers(small):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), np.uint8)
    expected, results = small.predict_pixels(pixels), {}

    def work(i):
        results[i] = np.concatenate([small.predict_pixels(pixels[j : j + 1]) for j in range(40)])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    assert all(np.array_equal(result, expected) for result in results.values())


def test_no_pictures_give_an_empty_array(small):
    assert small.predict_pixels(np.empty((0, 16, 16, 3), np.uint8)).shape == (0, 3)


@pytest.mark.parametrize(
    "pixels", [np.zeros((1, 16, 16, 3)), np.zeros((16, 16, 3), np.uint8), np.zeros((1, 8, 8, 3), np.uint8)]
)
def test_pixels_of_another_type_or_shape_are_rejected(small, pixels):
    with pytest.raises(ValueError, match=r"`pixels` must be uint8 of shape \(n, 16, 16, 3\)\. Received: "):
        small.predict_pixels(pixels)


# ---------------------------------------------------------------- run folders


def test_predicting_imports_no_framework(run_dir, tmp_path):
    (tmp_path / "homer.png").write_bytes(small_model.picture(RED))
    program = (
        "import sys; from lib.inference.recogniser import Recogniser, read_file\n"
        f"print(Recogniser.load({str(run_dir)!r}).predict(read_file({str(tmp_path / 'homer.png')!r})).name)\n"
        "print(sorted({'tensorflow', 'keras', 'torch', 'jax', 'pandas'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "Homer Simpson\n[]\n"


def test_the_model_file_alone_is_enough(tmp_path):
    (tmp_path / "model.tflite").write_bytes(small_model.model())
    small = Recogniser.load(tmp_path)
    assert small.predict(small_model.picture(RED)).name == "Homer Simpson"
    assert (small.name, small.record, small.metrics, small.threshold) == ("small", {}, {}, 0.5)


def test_a_recogniser_has_the_facts_of_its_run(tmp_path):
    run_dir = small_model.write_run(tmp_path / "cnn4", metrics={"macro_f1": 0.9, "threshold": 0.35})
    small = Recogniser.load(run_dir)
    assert small.name == "cnn4"
    assert small.characters == list(small_model.CHARACTERS)
    assert (small.picture_size, small.resize_mode, small.threshold) == (16, "stretch", 0.35)
    assert small.record["num_parameters"] == 12
    assert small.digest == hashlib.sha256((run_dir / "model.tflite").read_bytes()).hexdigest()


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"There is no run folder .*make train"):
        Recogniser.load(tmp_path / "nowhere")


def test_a_folder_without_a_model_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"holds no model\.tflite.*make train"):
        Recogniser.load(tmp_path)


def test_an_unfinished_training_is_an_error(tmp_path):
    with pytest.raises(UserError, match="is not finished"):
        Recogniser.load(small_model.write_run(tmp_path / "run", run={"finished": False}))


@pytest.mark.parametrize("version", [1, 2])
def test_model_files_of_both_format_versions_are_read(tmp_path, version):
    metadata = {"format_version": version, "resize_mode": "pad", "flip_tta_threshold": 0.8}
    (tmp_path / "model.tflite").write_bytes(small_model.model(metadata=metadata))
    loaded = Recogniser.load(tmp_path)
    assert (loaded.resize_mode, loaded.flip_tta_threshold) == ("pad", 0.8)


@pytest.mark.parametrize("where", [{"run": {"format_version": 3}}, {"metadata": {"format_version": 3}}])
def test_another_format_version_is_an_error(tmp_path, where):
    with pytest.raises(UserError, match="has format version 3, expected 1 or 2"):
        Recogniser.load(small_model.write_run(tmp_path / "run", **where))


@pytest.mark.parametrize(
    "invalid",
    [
        {"characters": []},
        {"characters": ["homer_simpson", "homer_simpson"]},
        {"characters": [1, 2, 3]},
        {"picture_size": "16"},
        {"picture_size": 10**9},
        {"resize_mode": "crop"},
        {"colour_order": "BGR"},
        {"value_range": [0, 1]},
        {"flip_tta_threshold": 1.5},
        {"flip_tta_threshold": "0.8"},
        {"run": None},
    ],
    ids=str,
)
def test_invalid_metadata_is_an_error(tmp_path, invalid):
    with pytest.raises(UserError, match=f"is damaged: .* has no valid {next(iter(invalid))}.*make train evaluate"):
        Recogniser.load(small_model.write_run(tmp_path / "run", metadata=invalid))


def test_a_model_file_truncated_anywhere_is_an_error(tmp_path):
    whole = small_model.model()
    for length in range(0, len(whole), 97):
        (tmp_path / "model.tflite").write_bytes(whole[:length])
        with pytest.raises(UserError, match="is damaged"):
            Recogniser.load(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"\0" * 1000 + whole[1000:],
        lambda whole: whole[whole.index(b"PK") :],  # the archive alone
        lambda whole: small_model.network(3, 16),  # the network alone
        lambda whole: small_model.model(metadata={"picture_size": 32}),
        lambda whole: small_model.model(metadata={"characters": ["a", "b"]}),
        lambda whole: whole.replace(np.float32(-10).tobytes(), np.float32(np.nan).tobytes()),  # the bias
    ],
    ids=["zeros", "no network", "no metadata", "other size", "other characters", "not a number"],
)
def test_a_damaged_model_file_is_an_error(tmp_path, damage):
    (tmp_path / "model.tflite").write_bytes(damage(small_model.model()))
    with pytest.raises(UserError, match="is damaged"):
        Recogniser.load(tmp_path)


def test_a_model_file_without_an_end_is_an_error(tmp_path):
    (tmp_path / "model.tflite").symlink_to("/dev/zero")
    with pytest.raises(UserError, match=r"model\.tflite cannot be read: it is not a regular file\."):
        Recogniser.load(tmp_path)


@pytest.mark.parametrize("record", ["run.json", "metrics.json"])
@pytest.mark.parametrize("contents", [b"", b"{", b"[]", b"\xff"])
def test_a_damaged_record_is_an_error(run_dir, record, contents):
    (run_dir / record).write_bytes(contents)
    with pytest.raises(UserError, match=f"{record} (cannot be read|must hold one JSON object)"):
        Recogniser.load(run_dir)


# ---------------------------------------------------------------- the best run


def test_runs_are_ordered_the_published_default_first_then_by_score(tmp_path):
    for run, macro_f1 in {
        "sample/cnn4": 0.99,
        "sample/cnn6": None,
        "kaggle/cnn6": 0.995,
        "published/cnn6": 0.96,
        "published/cnn4": 0.9,
        "published/springfield-18-seed-2": 0.5,
    }.items():
        small_model.write_run(tmp_path / run, metrics=None if macro_f1 is None else {"macro_f1": macro_f1})
    (tmp_path / "published" / "default.json").write_text('{"run": "springfield-18-seed-2"}')
    found = [str(run.relative_to(tmp_path)) for run in recogniser.find_runs(tmp_path)]
    assert found == [
        "published/springfield-18-seed-2",
        "published/cnn6",
        "published/cnn4",
        "kaggle/cnn6",
        "sample/cnn4",
        "sample/cnn6",
    ]
    assert recogniser.load_best(tmp_path).run_dir == tmp_path / "published/springfield-18-seed-2"


def test_a_relative_outputs_folder_counts_from_the_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OUTPUTS", "outputs")
    assert recogniser.load_best().run_dir == paths.PUBLISHED / "springfield"


def test_a_damaged_run_is_skipped_if_there_is_another(tmp_path):
    small_model.write_run(tmp_path / "published/springfield").joinpath("model.tflite").write_bytes(b"damaged")
    with pytest.raises(UserError, match="springfield"):
        recogniser.load_best(tmp_path)
    small_model.write_run(tmp_path / "sample/cnn4")
    found = recogniser.load_best(tmp_path)
    assert found.run_dir == tmp_path / "sample/cnn4"
    (said,) = found.passed_over
    assert "published/springfield" in said and said.endswith("sample/cnn4 answers instead.")


@pytest.mark.parametrize("lost", ["model.tflite", "run.json"])
def test_a_default_network_that_is_not_whole_is_not_replaced_without_a_word(tmp_path, lost):
    folder = small_model.write_run(tmp_path / "published/springfield", run={"model_sha256": "0" * 64})
    (tmp_path / "published/default.json").write_text('{"run": "springfield"}')
    (folder / lost).write_text("{") if lost == "run.json" else (folder / lost).unlink()
    small_model.write_run(tmp_path / "sample/cnn4")
    (said,) = recogniser.load_best(tmp_path).passed_over
    assert "published/springfield" in said


def test_unfinished_and_damaged_runs_are_not_found(tmp_path):
    small_model.write_run(tmp_path / "sample/unfinished", run={"finished": False})
    small_model.write_run(tmp_path / "sample/damaged").joinpath("run.json").write_text("{")
    small_model.write_run(tmp_path / "sample/unrecorded").joinpath("run.json").unlink()
    small_model.write_run(tmp_path / "published/records_only").joinpath("model.tflite").unlink()
    assert recogniser.find_runs(tmp_path) == []


def test_a_published_model_needs_no_records(tmp_path):
    small_model.write_run(tmp_path / "published/springfield").joinpath("run.json").unlink()
    assert recogniser.load_best(tmp_path).run_dir == tmp_path / "published/springfield"


@pytest.mark.parametrize("macro_f1", [None, "high"])
def test_a_score_that_is_not_a_number_is_ignored(tmp_path, macro_f1):
    small_model.write_run(tmp_path / "sample/a", metrics={"macro_f1": macro_f1})
    small_model.write_run(tmp_path / "sample/b", metrics={"macro_f1": 0.1})
    assert [run.name for run in recogniser.find_runs(tmp_path)] == ["b", "a"]


def test_no_run_is_an_error(tmp_path):
    with pytest.raises(UserError, match="Run `make train` first"):
        recogniser.load_best(tmp_path)


# ---------------------------------------------------------------- files


def test_a_file_is_read_up_to_the_limit(tmp_path):
    with (tmp_path / "huge.jpg").open("wb") as file:
        file.truncate(pictures.MAX_BYTES * 1000)  # a sparse file, which takes no space
    assert len(recogniser.read_file(tmp_path / "huge.jpg")) == pictures.MAX_BYTES + 1


def test_a_pipe_is_rejected_without_waiting_for_it(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(UserError, match="a device or a pipe"):
        recogniser.read_file(tmp_path / "pipe.jpg")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("missing.jpg", "There is no file"),
        (".", "a folder"),
        ("/dev/zero", "a device or a pipe"),
        ("a" * 300, "cannot be read: File name too long"),
        ("zero\0byte", "cannot be read|There is no file"),
        ("loop", "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_read_is_an_error(tmp_path, path, message):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UserError, match=message):
        recogniser.read_file(tmp_path / path)


def two_outputs(_, picture):
    """Answer with the probabilities .5, .3 and .1, .1 for nobody, and the second character on the left half."""
    class_map = np.zeros((4, 4, 3), np.float32)
    class_map[:, 2:, 0], class_map[:, :2, 1] = 0.9, 0.8
    return np.array([0.5, 0.3, 0.1, 0.1], np.float32), class_map


@pytest.mark.parametrize(("threshold", "known"), [(0.45, True), (0.75, True), (0.85, False)])
def test_the_probabilities_of_all_characters_in_the_picture_decide(tmp_path, monkeypatch, threshold, known):
    monkeypatch.setattr(recogniser._Network, "__call__", two_outputs)
    metadata = {"nobody": True, "threshold": threshold, "second_threshold": 0.7}
    network = Recogniser.load(small_model.write_run(tmp_path / "run", metadata=metadata))
    answer = network.predict(small_model.picture((9, 9, 9), width=80, height=40))
    assert (answer.known, answer.character) == (known, "homer_simpson" if known else None)
    assert answer.probability == pytest.approx(0.5)
    assert [found.character for found in answer.found] == (["homer_simpson", "krusty_the_clown"] if known else [])
    if known:
        right, left = answer.found
        assert (right.probability, left.probability) == pytest.approx((0.5, 0.8))
        assert left.box[2] <= right.box[0] + 0.1 and left.box[0] == 0 and right.box[2] == 1


def test_probabilities_of_nobody_are_left_out_and_class_maps_mirrored_back(tmp_path, monkeypatch):
    monkeypatch.setattr(recogniser._Network, "__call__", two_outputs)
    metadata = {"nobody": True, "flip_tta_threshold": 0.9}
    network = Recogniser.load(small_model.write_run(tmp_path / "run", metadata=metadata))
    probabilities, class_maps = network.outputs(np.zeros((2, 16, 16, 3), np.uint8))
    np.testing.assert_allclose(probabilities, [[0.5, 0.3, 0.1]] * 2)
    np.testing.assert_allclose(class_maps[0, 0, :, 0], [0.45] * 4)  # the mean of a map and its mirror image


def test_without_a_class_map_the_named_character_is_found_without_a_box(small):
    answer = small.predict(small_model.picture((255, 0, 0)))
    assert answer.found == [(answer.character, answer.name, answer.probability, None)]
