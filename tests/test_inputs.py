"""Which products are made again when something changes, and which are not."""

import json
import shutil

import nbformat
import pytest

from lib import paths, records
from lib.errors import UserError
from lib.pipeline import inputs

NOTEBOOKS = {stem: paths.NOTEBOOKS / f"{stem}.ipynb" for stem in inputs.PACKAGE_OF_STEP}


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of the modules and notebooks, which a test may change."""
    for folder in ("lib", "notebooks"):
        shutil.copytree(
            paths.ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "node_modules")
        )
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    inputs._imported.cache_clear()  # it holds paths of the repository itself
    yield tmp_path
    inputs._imported.cache_clear()


def digests(copy):
    return {stem: inputs.code_digests(copy / "notebooks" / f"{stem}.ipynb") for stem in inputs.PACKAGE_OF_STEP}


def steps_changed(copy, before):
    return {stem for stem, found in digests(copy).items() if found != before[stem]}


def test_each_module_reruns_the_steps_that_use_it_and_no_others(copy):
    before = digests(copy)
    for module in sorted(copy.glob("lib/**/*.py")):
        source = module.read_text(encoding="utf-8")
        module.write_text(source + "\nADDED = 1\n", encoding="utf-8")
        name = module.relative_to(copy).as_posix()
        expected = {stem for stem, modules in before.items() if name in modules}
        assert steps_changed(copy, before) == expected, name
        module.write_text(source, encoding="utf-8")


@pytest.mark.parametrize(
    ("module", "steps"),
    [
        ("data/manifest.py", {"01_prepare"}),
        ("data/duplicates.py", {"01_prepare"}),
        ("data/pictures.py", {"01_prepare", "02_train", "03_evaluate", "05_robustness"}),
        ("drawing/figures.py", {"01_prepare", "02_train", "05_robustness"}),
        ("training/augmentation.py", {"02_train"}),
        ("training/quantization.py", {"02_train"}),
        ("training/recipe.py", {"02_train", "05_robustness"}),
        ("inference/recogniser.py", {"03_evaluate", "05_robustness"}),
        ("evaluation/metrics.py", {"03_evaluate", "05_robustness"}),
        ("evaluation/plots.py", {"03_evaluate", "05_robustness"}),
        ("evaluation/corruptions.py", {"05_robustness"}),
        ("evaluation/card.py", set()),
        ("evaluation/compare.py", {"05_robustness"}),
        ("serving/server.py", set()),
        ("predict.py", set()),
        ("plan.py", set()),
    ],
)
def test_the_steps_that_use_a_module(module, steps):
    assert {
        stem for stem, notebook in NOTEBOOKS.items() if paths.ROOT / "lib" / module in inputs.files(notebook)
    } == steps


def test_a_table_beside_a_module_is_an_input_too():
    assert paths.ROOT / "lib" / "drawing" / "characters.yaml" in inputs.files(NOTEBOOKS["01_prepare"])


def test_a_comment_a_docstring_and_the_time_of_a_file_change_nothing(copy):
    before = digests(copy)
    module = copy / "lib" / "data" / "pictures.py"
    source = module.read_text(encoding="utf-8")
    module.write_text(source.replace('"""', '"""Reworded. ', 1) + "\n# A comment.\n", encoding="utf-8")
    assert steps_changed(copy, before) == set()


def test_the_prose_and_the_parameters_cell_of_a_notebook_change_nothing_and_its_code_does(copy):
    before = digests(copy)
    path = copy / "notebooks" / "02_train.ipynb"
    book = nbformat.read(path, as_version=4)
    book.cells[0].source += "\nMore prose."
    book.cells[1].source = book.cells[1].source.replace('"cnn4"', '"cnn6"')
    book.metadata["signature"] = "as JupyterLab leaves it"
    nbformat.write(book, path)
    assert steps_changed(copy, before) == set()
    [cell for cell in book.cells if cell.cell_type == "code"][-1].source += "\nprint(1)"
    nbformat.write(book, path)
    assert steps_changed(copy, before) == {"02_train"}


def test_what_only_ipython_knows_is_code_too(copy):
    before = digests(copy)
    path = copy / "notebooks" / "02_train.ipynb"
    book = nbformat.read(path, as_version=4)
    book.cells[-1] = nbformat.v4.new_code_cell("%matplotlib inline\n!nvidia-smi")
    nbformat.write(book, path)
    assert steps_changed(copy, before) == {"02_train"}


@pytest.mark.parametrize("source", ["x = (", "<<<<<<< HEAD\nx = 1", None])
def test_a_notebook_that_cannot_be_read_is_named(copy, source):
    path = copy / "notebooks" / "02_train.ipynb"
    book = nbformat.read(path, as_version=4)
    book.cells.append(nbformat.v4.new_code_cell(source or ""))
    path.write_text(nbformat.writes(book) if source else "<<<<<<< HEAD\n" + nbformat.writes(book))
    with pytest.raises(UserError, match=r"02_train\.ipynb cannot be read: .*git checkout notebooks/02_train\.ipynb"):
        inputs.files(path)


def test_a_module_that_is_no_python_is_named(copy):
    (copy / "lib" / "data" / "names.py").write_text("<<<<<<< HEAD\nx = 1\n")
    with pytest.raises(UserError, match=r"data/names\.py is no Python: invalid syntax.* take back your change"):
        inputs.files(copy / "notebooks" / "01_prepare.ipynb")


def test_the_digest_of_code_is_the_same_in_every_version_of_python(copy):
    code = "class A(object):\n    def b(self, *, c: int = 1):\n        return f'{c}'\n"
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    nbformat.write(book, copy / "notebooks" / "page.ipynb")
    digest = "e3db45732a2671d3"
    assert inputs.code_digests(copy / "notebooks" / "page.ipynb") == {"notebooks/page.ipynb": digest}


def test_a_product_is_up_to_date_until_one_of_its_inputs_changes(tmp_path):
    product = tmp_path / "run.json"
    assert inputs.changed(product, {"recipe": 1}) == [inputs.MISSING]
    product.write_text("{}")
    assert inputs.changed(product, {"recipe": 1}) == ["run.json has no record of its inputs"]
    inputs.write(product, {"recipe": 1, "old.py": "a"})
    assert inputs.changed(product, {"recipe": 1, "old.py": "a"}) == []
    assert inputs.changed(product, {"recipe": 2, "new.py": "b"}) == [
        "new.py changed",
        "old.py changed",
        "recipe changed",
    ]
    product.write_text('{"made": "by hand"}')
    assert inputs.changed(product, {"recipe": 1, "old.py": "a"}) == ["run.json was changed by something else"]


def test_the_products_of_one_folder_share_a_record(tmp_path):
    for name in ("run.json", "metrics.json"):
        (tmp_path / name).write_text(name)
        inputs.write(tmp_path / name, {"code": name})
    assert json.loads((tmp_path / records.INPUTS).read_text()).keys() == {"run.json", "metrics.json"}
    assert inputs.changed(tmp_path / "run.json", {"code": "run.json"}) == []


def test_a_damaged_record_of_inputs_makes_the_product_again(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / records.INPUTS).write_text("[1")
    assert inputs.changed(tmp_path / "run.json", {}) == ["run.json has no record of its inputs"]


def test_a_product_that_a_killed_step_left_or_something_else_replaced_is_not_made(tmp_path):
    product = tmp_path / "manifest.csv"
    product.write_text("a")
    (tmp_path / "settings.json").write_text("b")
    # The step was killed before it ended.
    assert inputs.changed(product, beside=("settings.json",)) == ["manifest.csv has no record of its inputs"]
    inputs.write(product, {"code": 1}, ("settings.json",))
    assert inputs.changed(product, beside=("settings.json",)) == []
    assert inputs.changed(product, {"code": 1}, ("settings.json",)) == []
    (tmp_path / "settings.json").write_text("c")
    assert inputs.changed(product, beside=("settings.json",)) == ["settings.json was changed by something else"]
    assert inputs.changed(product, {"code": 1}, ("settings.json",)) == ["settings.json was changed by something else"]
