import pytest

from lib import records
from lib.errors import UserError
from lib.evaluation import card

RUN = {
    "format_version": records.FORMAT_VERSION,
    "finished": True,
    "name": "tiny",
    "data_name": "drawn",
    "characters": ["bart_simpson", "krusty_the_clown"],
    "conv_layers": 17,
    "num_parameters": 1234567,
    "picture_size": 96,
    "exported_weights": "int8",
    "epochs": 34,
    "seconds": 1800.0,
    "best_epoch": 33,
    "best_val_macro_f1": 0.9712,
    "train_pictures": 4321,
    "machine": {"cores": 2},
    "recipe": {"seed": 7},
}
SCORES = {
    "test_pictures": 1500,
    "accuracy": 0.9,
    "macro_f1": 0.8765,
    "macro_f1_interval": [0.85, 0.89],
    "lowest_character": "krusty_the_clown",
    "lowest_f1": 0.8,
    "threshold": 0.55,
    "near_duplicates_in_train": 0,
}


@pytest.fixture
def folder(tmp_path):
    records.write_json(tmp_path / records.RUN_RECORD, RUN)
    records.write_json(tmp_path / records.METRICS_RECORD, SCORES)
    (tmp_path / "model.tflite").write_bytes(b"network")
    (tmp_path / "per_character.csv").write_text(
        "character,precision,recall,f1,support\nbart_simpson,0.95,0.9,0.924,40\nkrusty_the_clown,0.7,0.9,0.8,10\n"
    )
    (tmp_path / "confusion.csv").write_text(
        "actual,bart_simpson,krusty_the_clown\nbart_simpson,36,4\nkrusty_the_clown,0,10\n"
    )
    return tmp_path


def test_the_card_has_the_values_of_the_records(folder):
    text = card.model_card(folder)
    assert "| test split | 1,500 | 0.900 | 0.876 | 0.850 to 0.890 | Krusty the Clown | 0.800 |" in text
    assert "| Bart Simpson | 0.950 | 0.900 | 0.924 | 40 |" in text
    # One pair only: right answers are no confusion, and krusty was never called bart.
    assert "| Bart Simpson | Krusty the Clown | 4 |" in text and "| Krusty the Clown | Bart Simpson |" not in text
    assert "34 epochs and 30 minutes" in text and "Seed 7" in text
    # SHA-256 of b"network", by sha256sum.
    assert "3009be769fb8f956e8413ee9f3e0836e34968bc40457d0a10c549d2edcf00cc1" in text
    assert "own test set |" not in text and "corrupted test pictures" not in text


@pytest.mark.parametrize(("one", "other"), [("0", "1"), ("NA", "007")])
def test_names_that_look_like_numbers_or_nothing_are_names(folder, one, other):
    for name in ("per_character.csv", "confusion.csv"):
        text = (folder / name).read_text().replace("bart_simpson", one).replace("krusty_the_clown", other)
        (folder / name).write_text(text)
    text = card.model_card(folder)
    assert f"| {one} | 0.950 | 0.900 | 0.924 | 40 |" in text
    assert f"| {one} | {other} | 4 |" in text and f"| {one} | {one} |" not in text


def test_drawings_are_mentioned_where_there_were_any(folder):
    assert "Trained on 4,321 pictures.\n" in card.model_card(folder)
    records.write_json(folder / records.RUN_RECORD, RUN | {"recipe": {"seed": 7, "drawings_per_character": 100}})
    assert "Trained on 4,321 pictures and 100 drawings of each character" in card.model_card(folder)


def test_outside_pictures_of_nobody_are_mentioned_where_they_were_trained_on(folder):
    assert "clip-art" not in card.model_card(folder)
    records.write_json(folder / records.RUN_RECORD, RUN | {"recipe": {"seed": 7, "nobody": 0.15}})
    assert "as many as 15 % of these: public-domain clip-art" in card.model_card(folder)


def test_flip_test_time_augmentation_is_mentioned_where_it_is_used(folder):
    assert "mirror" not in card.model_card(folder)
    records.write_json(folder / records.RUN_RECORD, RUN | {"recipe": {"seed": 7, "flip_tta_threshold": 0.8}})
    assert "below a probability of 0.80, the answer is the mean over" in card.model_card(folder)


def test_scores_on_corrupted_pictures_are_averaged(folder):
    (folder / "robustness.csv").write_text(
        "kind,strength,macro_f1\nunchanged,,0.9\nclose_up,slight,0.8\nclose_up,strong,0.4\nshaken,slight,0.6\nshaken,strong,0.2\n"
    )
    text = card.model_card(folder)
    assert "0.500 on average" in text and "0.900 on the same pictures unchanged" in text
    assert "| close up | 0.800 | 0.400 |" in text


def test_a_missing_file_is_an_error_that_names_it(folder):
    (folder / "model.tflite").unlink()
    with pytest.raises(UserError, match=r"model\.tflite is missing; `make evaluate` and `make publish MODEL=1`"):
        card.model_card(folder)


def test_the_card_names_the_source_and_the_near_duplicates_in_train(folder):
    text = card.model_card(folder)
    assert "The pictures named `drawn`." in text and "Attia" not in text
    assert "No picture of the test split has a near-duplicate" in text
    own = SCORES | {"test_pictures": 890, "near_duplicates_in_train": 691}
    records.write_json(folder / records.METRICS_RECORD, SCORES | {"kaggle_test": own})
    text = card.model_card(folder)
    assert "CC BY-NC-SA 4.0" in text
    assert "691 of 890 pictures of the archive's own test set have a near-duplicate" in text


def test_a_network_that_declines_has_its_threshold_and_its_strangers_in_the_card(folder):
    run = RUN | {"recipe": {"seed": 7, "class_map": True}, "calibration": {"threshold": 0.371}}
    records.write_json(folder / records.RUN_RECORD, run)
    frequent = {"characters": 1, "macro_f1": 0.924, "lowest_f1": 0.924, "lowest_character": "bart_simpson"}
    records.write_json(folder / records.METRICS_RECORD, SCORES | {"frequent": frequent})
    strangers = {"named": 0.97, "named_strangers": {"clip-art": 0.031}, "declined_though_right": {"captioned": 0.06}}
    records.write_json(folder / records.STRANGERS, strangers | {"both_found": 0.85})
    text = card.model_card(folder)
    assert "It declines" in text and "add up to less than 0.37" in text
    assert "| test split, its 1 frequent characters |  |  | 0.924 |  | Bart Simpson | 0.924 |" in text
    assert "| clip-art, named | 3.1 % |" in text and "| two frames side by side, both found | 85.0 % |" in text
    assert "| test frames captioned, rightly recognised but declined | 6.0 % |" in text
    assert "second name" not in text


def test_a_network_without_a_class_map_declines_by_its_threshold_too(folder):
    text = card.model_card(folder)
    assert "It declines where no character has a probability of 0.55 or more" in text
    assert "class map" not in text


def test_a_network_that_was_trained_once_more_says_which_scores_are_its_own(folder):
    assert "make refit" not in card.model_card(folder)
    refit = {"train_pictures": 5432}
    records.write_json(folder / records.RUN_RECORD, RUN | {"refit": refit})
    text = card.model_card(folder)
    assert "a second training by this recipe, on the 5,432 frames of all splits" in text
    assert "neither has seen" not in text
    records.write_json(folder / records.RUN_RECORD, RUN | {"refit": refit | {"scores": SCORES}})
    text = card.model_card(folder)
    assert "which neither has seen, the file reaches an accuracy of 0.900 and a macro F1 of 0.876 (0.850" in text
    leaking = SCORES | {"near_duplicates_in_train": 691}
    records.write_json(folder / records.RUN_RECORD, RUN | {"refit": refit | {"scores": leaking}})
    text = card.model_card(folder)
    assert "of whose 1,500 pictures 691 have a near-duplicate among the training pictures, the file" in text
