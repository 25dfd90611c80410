"""What make's variables mean: names, settings and recipes, checked all at once."""

import contextlib
import dataclasses
import importlib.util
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lib import paths, records
from lib.data import names, sources
from lib.data.preparation import CORRECTED, MANIFEST, SUFFIX, Preparation, suffix
from lib.errors import UserError, did_you_mean
from lib.training import recipe as recipes
from lib.training.recipe import Recipe

PUBLISHED = "published"  # the data name of the committed records
# The variables of make and what they are for, as docs/configuration.md has them.
VARIABLES = {
    "DATA": "sample, kaggle, or the path of an archive or a folder of pictures",
    "RUNS": "names of recipes in notebooks/params/, or all",
    "EPOCHS": "instead of the recipe's",
    "SET": "changes of the recipe, such as 'dropout=0.5 seed=1'; the run is named after them",
    "CORRECTIONS": "file of corrected labels, such as `make review` writes",
    "OUTPUTS": "folder of the runs",
    "CLUSTER": "where runs are made and pictures decoded: local, or the address of a Dask scheduler; empty for here",
    "MODEL": "1 publishes the network and its model card too",
}
# Variables of the other targets, and of the environment.
OTHER_VARIABLES = (
    *("IMAGE", "MODEL_DIR", "RUN", "HOST", "PORT", "TOKEN", "TOKEN_FILE", "PYTHON", "ENVIRONMENT", "SHELL"),
    *("KERAS_BACKEND", "MLFLOW_TRACKING_URI", "SWEEP", "SIMPSONS_ARCHIVE", "KILLS", "KILL_SEED"),
)
PREPARATION_VARIABLES = {"SPLIT": "split", "SIZE": "picture_size", "RESIZE": "resize_mode"}
PREPARATION_VARIABLES |= {"MIN_PICTURES": "min_pictures", "EXCLUDE_KAGGLE_TEST": "exclude_kaggle_test"}
PREPARATION_VARIABLES |= {"NEAR_RMS": "near_rms", "NEAR_BITS": "near_bits", "SAME_RMS": "same_rms"}
VARIABLES |= {name: f"sets `{field}` of the pictures, see below" for name, field in PREPARATION_VARIABLES.items()}
# Variables that must have a form, and what it is.
FORMS = {
    "OUTPUTS": (r"(?!-)[\w./-]+", "the path of a folder, of letters, digits and . _ - /"),
    "MODEL": ("[01]", "0 or 1"),
    "CLUSTER": (r"local|.*://.*", "`local` or an address such as tcp://scheduler:8786"),
}
BACKENDS = ("tensorflow", "jax", "torch")  # of Keras, by the names of their packages
MADE_ANEW = ("site", "coverage")  # folders of `outputs` that `make site` and `make test` replace
# Of the repository, below which no runs are written.
PROJECT_FOLDERS = ("data", "docs", "lib", "notebooks", "tests", ".git", ".make", ".venv", "outputs/published")
PROJECT_FOLDERS += tuple(f"outputs/{name}" for name in MADE_ANEW)
LEAST_SIZE_OF_SIX = 22  # pixels that three blocks of two unpadded convolutions and a pooling need


@dataclasses.dataclass(frozen=True)
class Run:
    """A run to be made: the name of its recipe, what is changed of it, and the result."""

    recipe_name: str
    overrides: dict[str, Any]
    recipe: Recipe


@dataclasses.dataclass(frozen=True)
class Plan:
    """What one call of make works on."""

    source: str  # `sample`, `kaggle`, or a path
    raw_name: str  # folder of `data/raw`
    data_name: str  # folder of `data/processed` and of the outputs
    outputs: str  # folder of the runs, as given
    preparation: Preparation  # settings of the prepared pictures
    runs: dict[str, Run]  # what each run is made with, by its name
    publish_model: bool  # whether publishing copies the network too
    corrections: str  # file of corrected labels; empty for the labels of the source
    cluster: str  # `local`, the address of a Dask scheduler, or empty

    @property
    def elsewhere(self) -> dict[str, str]:
        """Variables that mean the same prepared pictures where the source and the corrected labels are not at hand."""
        manifest = f"data/processed/{self.data_name}/manifest.csv"
        source = self.source if self.source in sources.GENERATED else self.raw_name
        return {"DATA": source} | ({"CORRECTIONS": manifest} if self.corrections else {})

    @property
    def raw(self) -> Path:
        """Folder of the unchanged pictures."""
        return paths.RAW / self.raw_name

    @property
    def prepared(self) -> Path:
        """Folder of the prepared pictures."""
        return paths.PROCESSED / self.data_name

    @property
    def folder(self) -> Path:
        """Folder of the runs on these pictures."""
        return paths.ROOT / self.outputs / self.data_name

    def run_folder(self, run: str) -> Path:
        """Folder of a run."""
        return self.folder / run

    def write_recipes(self) -> None:
        """Write the recipe of each run into its folder, where it changed."""
        for name, run in self.runs.items():
            records.write_if_changed(self.run_folder(name) / records.RECIPE, run.recipe.model_dump() | backend())

    def check_size(self) -> None:
        """Raise a `UserError` if the pictures are too small for a run."""
        size, runs = self.preparation.picture_size, self.runs.items()
        six = [name for name, run in runs if run.recipe.network == "cnn" and run.recipe.conv_layers == 6]
        if six and size < LEAST_SIZE_OF_SIX:
            raise UserError(
                f"SIZE must be at least {LEAST_SIZE_OF_SIX} for {', '.join(six)}, not {size}; networks with four "
                "layers and springfield take 16."
            )

    def run_with_class_map(self) -> Run:
        """Find the only run with a class map, for `make unknown`; a `UserError` if there is none or several."""
        found = [run for run in self.runs.values() if run.recipe.class_map]
        if len(found) != 1:
            listed = ", ".join(self.runs)
            raise UserError(
                f"`make unknown` needs one run with a class map in RUNS, such as springfield, not {listed}."
            )
        return found[0]

    def published_folder(self, run: str) -> Path:
        """Folder of a run among the committed records."""
        suffix = "" if self.preparation.split == "grouped" else f"-{self.preparation.split}"
        return paths.PUBLISHED / (run + suffix + (f"-{CORRECTED}" if self.corrections else ""))


def make_plan(variables: Mapping[str, str]) -> Plan:
    """Check make's variables, by name, and say what they mean; one that is missing or empty has its default.

    Raises:
        UserError: One line for each mistake, with the variable, what is allowed, and what was received.
    """
    given = {name: variables.get(name, "").strip() for name in VARIABLES}
    mistakes: list[str] = []
    known = (*VARIABLES, *OTHER_VARIABLES)
    for name in variables.get("GIVEN", "").split():
        if name not in known:
            mistakes.append(
                f"There is no variable {name}. {did_you_mean(name, known)} What programs read is set before make: "
                "NAME=value make …"
            )
    source, outputs = given["DATA"] or "sample", given["OUTPUTS"] or paths.OUTPUTS.name
    raw_name = sources.name_of(source, paths.RAW, _is_reserved)
    if not raw_name:
        mistakes.append(f"DATA must be {VARIABLES['DATA']}, not {source!r}.")
    with _kept(mistakes):
        preparation = _preparation(source, given)
    usual = ("springfield",) if variables.get("GOALS", "").split() == ["unknown"] else ("cnn4", "cnn6")
    runs = _runs(given, usual, source, mistakes) if raw_name != PUBLISHED else {}
    for name, (form, expected) in FORMS.items():
        if given[name] and not re.fullmatch(form, given[name]):
            mistakes.append(f"{name} must be {expected}, not {given[name]!r}.")
    chosen = variables.get("KERAS_BACKEND", "")
    if chosen and chosen not in BACKENDS:
        mistakes.append(f"KERAS_BACKEND must be {', '.join(BACKENDS[:-1])} or {BACKENDS[-1]}, not {chosen!r}.")
    elif chosen and importlib.util.find_spec(chosen) is None:
        mistakes.append(f"KERAS_BACKEND={chosen} needs the package {chosen}, which is not installed. Install it first.")
    corrections = given["CORRECTIONS"] and str(sources.path_of(given["CORRECTIONS"]).resolve())
    if corrections and not Path(corrections).is_file():
        mistakes.append(f"CORRECTIONS: there is no file {given['CORRECTIONS']!r}. `make review` writes one.")
    if _is_of_the_project((paths.ROOT / outputs).resolve()):
        mistakes.append(f"OUTPUTS must be a folder for runs alone, such as outputs or ../runs, not {outputs!r}.")
    if mistakes:
        raise UserError("\n".join(mistakes))
    data_name = raw_name + suffix(source, preparation, bool(corrections))
    plan = Plan(
        source, raw_name, data_name, outputs, preparation, runs, given["MODEL"] == "1", corrections, given["CLUSTER"]
    )
    _check_apart(plan)
    return plan


def _check_apart(plan: Plan) -> None:
    """Raise a `UserError` if what make writes, and `make clean` removes, would be mixed with what the user gave."""
    given = [] if plan.source in sources.GENERATED or plan.raw_name == PUBLISHED else [sources.path_of(plan.source)]
    # A worker without the corrections has them from the manifest that was made with them; see `Plan.elsewhere`.
    if plan.corrections and Path(plan.corrections) != plan.prepared.resolve() / MANIFEST:
        given.append(Path(plan.corrections))
    for ours in (plan.prepared.resolve(), plan.folder.resolve()):
        for theirs in (path.resolve() for path in given):
            if theirs.is_relative_to(ours) or ours.is_relative_to(theirs):
                raise UserError(
                    f"{theirs} and {ours}, which make writes and `make clean` removes, are one folder or inside each "
                    "other. Choose another OUTPUTS, or move what you give."
                )


def backend() -> dict[str, str]:
    """Say on which backend of Keras a network is trained, where that is not the usual one."""
    chosen = os.environ.get("KERAS_BACKEND") or "tensorflow"
    return {} if chosen == "tensorflow" else {"backend": chosen}


def goals() -> set[str]:
    """What make was asked for, such as `train`."""
    return set(os.environ.get("GOALS", "").split())


def run_of_interest() -> str:
    """The run of `make report` and `make explore`, as given in RUN; empty where none is."""
    return os.environ.get("RUN", "").strip()


@contextlib.contextmanager
def _kept(mistakes: list[str]) -> Iterator[None]:
    """Keep the mistakes that a block names, each once."""
    try:
        yield
    except UserError as problem:
        mistakes += [line for line in str(problem).splitlines() if line not in mistakes]


def _is_reserved(name: str) -> bool:
    return name in (*sources.GENERATED, *MADE_ANEW) or re.search(SUFFIX, name) is not None


def _is_of_the_project(folder: Path) -> bool:
    """Say whether runs in a folder would mix with files of the project, which `make clean` would then remove."""
    own = [paths.ROOT / name for name in PROJECT_FOLDERS]
    return paths.ROOT.is_relative_to(folder) or any(folder.is_relative_to(each.resolve()) for each in own)


def _preparation(source: str, given: Mapping[str, str]) -> Preparation:
    given = {variable: records.value_of(given[variable]) for variable in PREPARATION_VARIABLES if given[variable]}
    settings = {PREPARATION_VARIABLES[variable]: value for variable, value in given.items()}
    if settings.get("exclude_kaggle_test") in (0, 1):
        settings["exclude_kaggle_test"] = bool(settings["exclude_kaggle_test"])
    return Preparation.of(source, settings, {name: variable for variable, name in PREPARATION_VARIABLES.items()})


def _runs(given: Mapping[str, str], usual: tuple[str, ...], source: str, mistakes: list[str]) -> dict[str, Run]:
    """Load the recipe of each run, the usual ones where none is given, and add all mistakes of all runs."""
    known = recipes.names()
    asked = given["RUNS"].replace(",", " ").split() or list(usual)
    asked = [name for name in known if "/" not in name] if asked == ["all"] else asked
    changes: dict[str, str] = {}
    with _kept(mistakes):
        changes = _changes(given["SET"])
    overrides = {name: records.value_of(value) for name, value in changes.items()}
    origins = dict.fromkeys(changes, "SET")
    if given["EPOCHS"]:
        if "epochs" in changes:
            mistakes.append("EPOCHS and SET both name the epochs. Give one of them.")
        overrides["epochs"], origins["epochs"] = records.value_of(given["EPOCHS"]), "EPOCHS"
    suffix = "".join(f"-{name}-{value}" for name, value in changes.items())
    found = {}
    for name in asked:
        with _kept(mistakes):
            if name not in known:
                raise recipes.unknown(name)
            if not recipes.NAME.fullmatch(name):
                raise UserError(f"A run cannot be named {name!r}. Rename the recipe: letters, digits and . _ + - only.")
            if len(Path(name + suffix).name) > names.MAX_NAME_BYTES:
                raise UserError(
                    f"SET has too many changes: the run would have a name of {len(name + suffix)} letters, of at most "
                    f"{names.MAX_NAME_BYTES}. Write them into a recipe of your own in notebooks/params/."
                )
            recipe_name = recipes.for_source(name, source)
            found[name + suffix] = Run(recipe_name, overrides, Recipe.load(recipe_name, origins, **overrides))
    return found


def _changes(text: str) -> dict[str, str]:
    """Read `dropout=0.5 seed=1`."""
    changes: dict[str, str] = {}
    for word in text.split():
        if not re.fullmatch(r"\w+=[\w.+-]+", word):
            raise UserError(f"SET must hold `name=value` pairs, such as 'dropout=0.5 seed=1', not {word!r}.")
        name, _, value = word.partition("=")
        if name in changes:
            raise UserError(f"SET names `{name}` twice.")
        changes[name] = value
    return changes
