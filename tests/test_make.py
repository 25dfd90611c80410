"""What make does before a network is trained: sources, splits, mistakes, values that mean harm."""

import shutil

import pandas as pd
import pytest

from lib import records
from tests.checkout import CHARACTERS, make_checkout

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    return make_checkout(tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("drawn"))


def test_nothing_to_compare_is_said(checkout):
    made = checkout.make("compare", "DATA=nothing-yet")
    assert made.returncode == 0, made.stderr
    assert "nothing-yet is evaluated; `make evaluate` does." in made.stdout


def test_a_random_split_has_a_place_of_its_own_and_is_made_again_where_that_did_not_end(checkout):
    made = checkout.make("data", "SPLIT=random")
    assert made.returncode == 0, made.stderr
    assert "in train" in made.stdout
    folder = checkout.folder / "data" / "processed" / "tiny-random"
    assert (folder / "manifest.csv").is_file()
    (folder / records.INPUTS).unlink()  # as after a kill between the product and the end of its notebook
    said = checkout.first_line("data", "SPLIT=random")
    assert said == "Preparing tiny-random again: manifest.csv has no record of its inputs\n"


def test_a_source_that_changes_is_taken_again_up_to_the_scores(checkout):
    """With few pictures, too: two of the validation."""
    source = checkout.folder / "growing"
    manifest = checkout.folder / "data" / "processed" / "growing" / "manifest.csv"
    drawn = {name: sorted((checkout.folder / "tiny" / name).iterdir()) for name in CHARACTERS[:2]}

    def add(number):
        for name, pictures in drawn.items():
            (source / name).mkdir(parents=True, exist_ok=True)
            for picture in pictures[:number]:
                shutil.copy(picture, source / name)

    add(10)
    made = checkout.make("data", f"DATA={source}")
    assert made.returncode == 0, made.stderr
    assert len(pd.read_csv(manifest)) == 20
    add(13)
    made = checkout.make("data", f"DATA={source}")
    assert made.returncode == 0, made.stderr
    assert "has changed since its pictures were copied" in made.stdout
    assert "Preparing growing again: source changed" in made.stderr
    assert "Excluded pictures: " in made.stdout
    assert len(pd.read_csv(manifest)) == 26


def test_a_mistake_gets_a_message_and_no_traceback(checkout):
    of_the_user = {"PYTHONOPTIMIZE": "2", "PYTHONINSPECT": "1", "PYTHONIOENCODING": "ascii"}
    made = checkout.make("train", "EPOCH=3", "RUNS=cnné", variables=of_the_user)
    assert made.returncode == 2
    assert "There is no variable EPOCH." in made.stderr and "There is no recipe 'cnné'." in made.stderr
    assert "Traceback" not in made.stdout + made.stderr


@pytest.mark.parametrize("variable", ["DATA", "IMAGE", "RUN", "MODEL_DIR", "OUTPUTS", "PORT", "SET"])
def test_no_value_is_expanded_by_make_or_run_by_a_shell(checkout, variable):
    goal = {"DATA": "data", "IMAGE": "predict", "RUN": "report", "PORT": "dashboard", "MODEL_DIR": "predict"}
    given = [f"{variable}=$(shell touch F)`touch F`';touch F;'", *(["IMAGE=x.png"] if variable == "MODEL_DIR" else [])]
    made = checkout.make(goal.get(variable, "train"), *given)
    assert made.returncode == 2, made.stdout
    assert not (checkout.folder / "F").exists()


def test_make_alone_prints_help(checkout):
    made = checkout.make()
    assert "make train" in made.stdout and "DATA=kaggle" in made.stdout
