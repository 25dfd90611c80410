import numpy as np
import pandas as pd

from lib.characters import display_name
from lib.evaluation import tables


def cells(table):
    shown = tables.for_reading(table)
    return shown.data.to_dict("list")


def test_names_are_spelt_and_numbers_rounded_in_one_way():
    table = pd.DataFrame({"character": ["bart_simpson"], "macro_f1": [7 / 9], "minutes": [2.412], "pictures": [1234]})
    assert cells(table) == {
        "character": ["Bart Simpson"],
        "macro F1": ["0.778"],
        "minutes": ["2.4"],
        "pictures": ["1,234"],
    }


def test_headings_have_the_terms_of_the_field():
    table = pd.DataFrame(
        columns=["val_macro_f1", "kaggle_macro_f1", "gain_on_kaggle", "fpr_at_95_tpr"], data=[[0.5] * 4]
    )
    assert list(cells(table)) == [
        *("validation macro F1", "archive's own test macro F1", "gain on archive's own test", "FPR at 95 TPR"),
    ]


def test_what_is_missing_is_blank_and_an_empty_column_is_left_out():
    table = pd.DataFrame({"run": ["a", "b"], "loss": [0.5, np.nan], "none": [None, None]})
    assert cells(table) == {"run": ["a", "b"], "loss": ["0.500", ""]}


def test_a_named_index_becomes_a_column():
    table = pd.DataFrame({"pictures": [2]}, index=pd.Index(["keep"], name="verdict"))
    assert cells(table) == {"verdict": ["keep"], "pictures": ["2"]}


def test_the_same_table_is_the_same_text():
    table = pd.DataFrame({"run": ["a"]})
    assert tables.for_reading(table).to_html() == tables.for_reading(table).to_html()


def test_a_label_of_underscores_alone_has_a_name():
    assert (display_name("krusty_the_clown"), display_name("_")) == ("Krusty the Clown", "_")
