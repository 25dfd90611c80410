"""The one recipe type: files, inheritance, overrides, and what is said of a mistake."""

import typing

import pytest

from lib import paths, records
from lib.errors import UserError
from lib.pipeline.plan import make_plan
from lib.training import recipe
from lib.training.recipe import Recipe

PUBLISHED = sorted(path.parent for path in paths.PUBLISHED.rglob(records.RUN_RECORD))


@pytest.fixture
def params(tmp_path, monkeypatch):
    """Write recipe files into a folder of their own."""
    monkeypatch.setattr(paths, "PARAMS", tmp_path)

    def write(**files):
        for name, text in files.items():
            (tmp_path / f"{name.replace('__', '/')}.yaml").write_text(text)

    return write


@pytest.mark.parametrize("name", recipe.names())
def test_every_recipe_loads(name):
    assert Recipe.load(name).epochs > 0


@pytest.mark.parametrize("path", sorted((paths.PARAMS / recipe.SAMPLE).glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_for_the_sample_replaces_one_that_there_is(path):
    assert path.stem in recipe.names()
    assert recipe.for_source(path.stem, "sample") == f"sample/{path.stem}"
    assert Recipe.load(f"sample/{path.stem}").network == Recipe.load(path.stem).network


def test_a_run_without_a_recipe_for_the_sample_uses_its_own():
    assert recipe.for_source("springfield-18", "sample") == "springfield-18"


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda folder: folder.relative_to(paths.PUBLISHED).as_posix())
def test_every_published_record_is_read_as_a_recipe_of_today(folder):
    record = records.read_run(folder)
    assert record["resize_mode"] in ("stretch", "bounded")
    assert Recipe.check(record["recipe"]).epochs >= record["epochs"]


def test_a_published_recipe_is_still_the_one_of_its_file():
    for run in ("cnn4", "cnn6", "cnn6-matched", "springfield-18", "ablation/sgd", "ablation/frames-only"):
        # Older records lack the parameters that came later.
        published = records.read_run(paths.PUBLISHED / run)["recipe"]
        assert published.items() <= Recipe.load(run).model_dump().items()


def test_a_file_holds_only_what_differs_from_the_one_it_extends(params):
    params(base="network: cnn\nepochs: 5\nseed: 7\n", long="extends: base\nepochs: 50\n")
    assert (Recipe.load("long").epochs, Recipe.load("long").seed) == (50, 7)


def test_a_file_of_variants_changes_one_base(params):
    params(base="network: cnn\n", study="extends: base\nepochs: 2\nvariants:\n  plain: {}\n  sgd: {optimizer: sgd}\n")
    assert recipe.names() == ["base", "study/plain", "study/sgd"]
    assert (Recipe.load("study/sgd").optimizer, Recipe.load("study/sgd").epochs) == ("sgd", 2)
    for found in (lambda: Recipe.load("study"), lambda: make_plan({"RUNS": "study"})):
        with pytest.raises(UserError, match=r"study\.yaml holds several recipes: study/plain, study/sgd"):
            found()


@pytest.mark.parametrize("variants", ["[plain, sgd]", "3", "", "{plain: 3}", "{plain: [1]}"])
def test_variants_that_are_no_names_with_changes_are_refused(params, variants):
    params(study=f"network: cnn\nvariants: {variants}\n", base="network: cnn\n")
    assert recipe.names() == ["base", "study"]
    for name in ("study", "study/plain"):
        with pytest.raises(UserError, match=r"study\.yaml: `variants` must hold names, each with what it changes"):
            Recipe.load(name)


def test_the_name_of_a_variant_may_be_a_number(params):
    params(seeds="network: cnn\nvariants:\n  1: {seed: 1}\n")
    assert recipe.names() == ["seeds/1"]
    assert Recipe.load("seeds/1").seed == 1


def test_a_damaged_file_and_an_editors_lock_stop_no_other_recipe(params, tmp_path):
    params(draft="epochs: [", good="network: cnn\n")
    (tmp_path / ".#good.yaml").symlink_to("nowhere")
    (tmp_path / "._good.yaml").write_bytes(b"\0\5\26\7")
    (tmp_path / "gone.yaml").symlink_to("nowhere")
    (tmp_path / "folder.yaml").mkdir()
    assert recipe.names() == ["draft", "good"]
    assert Recipe.load("good").network == "cnn"
    with pytest.raises(UserError, match=r"draft\.yaml is not a valid YAML file"):
        Recipe.load("draft")


def test_overrides_replace_the_values_of_the_file():
    assert Recipe.load("springfield", epochs=10, seed=3).model_dump(include={"epochs", "seed"}) == {
        "epochs": 10,
        "seed": 3,
    }


def test_1e_3_is_a_number_as_every_user_means_it(params):
    params(mine="network: cnn\nlearning_rate: 1e-3\nweight_decay: 1.5E-4\nepochs: 40.0\n")
    assert (Recipe.load("mine").learning_rate, Recipe.load("mine").weight_decay) == (0.001, 0.00015)
    assert Recipe.load("mine").epochs == 40


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("epoch: 3", "mine.yaml: there is no parameter `epoch`. Did you mean epochs?"),
        ("zzz: 3", "mine.yaml: there is no parameter `zzz`. Known: network, conv_layers"),
        ("epochs: many", "mine.yaml: `epochs` must be a whole number from 1 to 100000, not 'many'."),
        ("epochs: 2.5", "`epochs` must be a whole number from 1 to 100000, not 2.5."),
        ("epochs: yes", "`epochs` must be a whole number from 1 to 100000, not True."),
        ("epochs:", "`epochs` must be a whole number from 1 to 100000, not None."),
        ("flip: 1", "`flip` must be true or false, not 1."),
        ("width: 8", "`width` must be a whole number from 16 to 1024, not 8."),
        ("dropout: 2", "`dropout` must be a number from 0 to 0.95, not 2."),
        ("learning_rate: .nan", "`learning_rate` must be a number from 1e-08 to 1, not nan."),
        ("learning_rate: [1]", "`learning_rate` must be a number from 1e-08 to 1, not [1]."),
        ("epochs: 010", "`epochs` must be a whole number from 1 to 100000, not '010'."),
        ("epochs: 1:30", "`epochs` must be a whole number from 1 to 100000, not '1:30'."),
        ("learning_rate: 0_1", "`learning_rate` must be a number from 1e-08 to 1, not '0_1'."),
        ("zoom: 01", "`zoom` must be a number from 0 to 4, not '01'."),
        ("zoom: \uff11", "`zoom` must be a number from 0 to 4, not '\uff11'."),
        ("optimizer: lion", "`optimizer` must be one of rmsprop, sgd, adamw, muon, not 'lion'."),
        ("conv_layers: 5", "`conv_layers` must be one of 4, 6, not 5."),
        ("progressive_fraction: 0.5", "`progressive_fraction` must be 0 for the network cnn"),
    ],
)
def test_a_mistake_is_named_with_file_key_allowed_values_and_value(params, line, says):
    params(mine=f"network: cnn\n{line}\n")
    with pytest.raises(UserError) as problem:
        Recipe.load("mine")
    assert says in str(problem.value)
    assert len(str(problem.value).splitlines()) == 1


def test_a_key_that_is_no_text_is_a_mistake_too(params):
    params(study="network: cnn\nvariants:\n  odd: {1: 2}\n")
    with pytest.raises(UserError, match="there is no parameter `1`"):
        Recipe.load("study/odd")


def test_every_mistake_is_named_at_once(params):
    params(mine="network: cnn\nepochs: 0\ndropout: 2\n")
    with pytest.raises(UserError) as problem:
        Recipe.load("mine")
    assert len(str(problem.value).splitlines()) == 2


def test_the_file_of_an_inherited_mistake_is_named(params):
    params(base="network: cnn\nepochs: 0\n", mine="extends: base\nseed: 1\n")
    with pytest.raises(UserError, match=r"base\.yaml: `epochs`"):
        Recipe.load("mine")


def test_a_recipe_without_a_network_is_refused(params):
    params(**{"cnn6-seed-1": "seed: 1\n"})
    with pytest.raises(UserError, match=r"cnn6-seed-1\.yaml: `network` is missing; it must be one of cnn, "):
        Recipe.load("cnn6-seed-1")


@pytest.mark.parametrize("name", ["cnn5", "ablation/nothing", "../params/cnn4", "/etc/passwd", ""])
def test_a_recipe_that_there_is_not_is_named(name):
    with pytest.raises(UserError, match=r"There is no recipe|a recipe has a name"):
        Recipe.load(name)


def test_a_circle_of_extends_is_refused(params):
    params(one="extends: two\n", two="extends: one\n")
    with pytest.raises(UserError, match="`extends` goes in a circle: one → two → one"):
        Recipe.load("one")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("epochs: [", "not a valid YAML file"),
        ("- epochs", "one `name: value` a line"),
        ("3: 4", "one `name: value` a line"),
        ("a: &x 1\nb: *x", "anchors"),
        ("a: !!python/name:os.system 1", "tag"),
        ("epochs: 1\nepochs: 2", "the key `epochs` appears twice"),
        ("a: " + "[" * 20_000 + "]" * 20_000, "nested too deeply"),
    ],
)
def test_a_file_that_is_no_plain_yaml_is_refused(params, text, says):
    params(mine=text)
    with pytest.raises(UserError, match=says):
        Recipe.load("mine")


def test_every_parameter_has_a_meaning_and_numbers_have_limits():
    for name, field in Recipe.model_fields.items():
        assert field.description and Recipe.allowed(name)
        if field.annotation in (int, float):
            assert None not in Recipe.limits(name), name


def test_a_notebook_shows_every_value_and_stresses_what_is_not_the_default():
    lines = Recipe.load("cnn6")._repr_markdown_().splitlines()
    assert len(lines) == 2 + len(Recipe.model_fields)
    assert "| `conv_layers` | **6** | 4 | depth of cnn |" in lines
    assert "| `momentum` | 0.9 | 0.9 | of sgd and muon |" in lines


def test_the_networks_of_a_recipe_are_those_that_can_be_built():
    from lib.training import networks

    for name in typing.get_args(Recipe.model_fields["network"].annotation):
        built = networks.build(Recipe(network=name, width=16, dense_units=8), num_characters=3, picture_size=32)
        assert built.output_shape == (None, 3)
