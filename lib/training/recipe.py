"""The recipe of a training: every parameter with its type, range, default and meaning, written down once.

A recipe is a YAML file in `notebooks/params/`. `extends: springfield` starts from another recipe, so that a file
holds only what differs. A file may also hold several recipes that change one base, under `variants:`.
"""

import re
from pathlib import Path
from typing import Any, Literal

import pydantic
from pydantic import Field

from lib import paths, records
from lib.errors import UserError, did_you_mean
from lib.settings import Settings, number

SAMPLE = "sample"  # folder of the recipes that replace others on the drawn sample
SUFFIX = ".yaml"
EXPORT_PARAMETERS = {"export_weights", "flip_tta_threshold"}  # which do not decide the trained weights
NAME = re.compile(r"\w[\w.+-]*(/\w[\w.+-]*)?")  # of a recipe that can be trained: a run and its folder have it too

Network = Literal["cnn", "springfield"]  # what `lib.training.networks` builds


class Recipe(Settings):
    """All that decides a training, besides the pictures.

    Example:
        >>> Recipe.load("springfield", epochs=10).epochs
        10
    """

    network: Network = Field(description="what to build")
    conv_layers: Literal[4, 6] = Field(4, description="depth of cnn")
    dense_units: int = number(512, 1, 65_536, "width of the dense layer of cnn")
    # With fewer, oneDNN writes gradients past their memory: https://github.com/uxlfoundation/oneDNN/issues/6035
    width: int = number(32, 16, 1024, "filters of the first stage of springfield")
    dropout: float = number(
        0.25,
        0,
        0.95,
        "fraction of activations dropped, after each block of cnn or before the last layer of springfield",
    )
    dense_dropout: float = number(0.5, 0, 0.95, "fraction of activations dropped after the dense layer of cnn")

    optimizer: Literal["rmsprop", "sgd", "adamw", "muon"] = Field("rmsprop", description="how weights are updated")
    learning_rate: float = number(0.0001, 1e-8, 1, "peak learning rate")
    momentum: float = number(0.9, 0, 0.9999, "of sgd and muon")
    weight_decay: float = number(0.0, 0, 1, "decoupled weight decay, multiplied by the rate")
    label_smoothing: float = number(0.0, 0, 0.9, "fraction of the target probability spread over all characters")
    schedule: Literal["constant", "step", "cosine", "one_cycle"] = Field(
        "constant", description="learning-rate schedule"
    )
    drop_every: int = number(10, 1, 100_000, "epochs between two divisions of the rate by 10, in the step schedule")
    epochs: int = number(32, 1, 100_000, "passes over the training pictures")
    patience: int = number(0, 0, 100_000, "epochs without a better validation score before stopping; 0 never stops")
    batch_size: int = number(32, 1, 65_536, "pictures per step")
    train_fraction: float = number(1.0, 0.001, 1, "fraction of each character's training pictures that is used")
    progressive_fraction: float = number(
        0.0, 0, 1, "fraction of the epochs, the first ones, that train on small pictures; cnn needs 0"
    )
    progressive_size: int = number(64, 8, 1024, "side of a small picture, pixels, at most that of the prepared ones")

    shift: float = number(0.1, 0, 0.5, "largest shift in width and height, fraction of the picture")
    flip: bool = Field(True, description="mirror half of the pictures")
    zoom: float = number(0.0, 0, 4, "largest change of scale, fraction")
    rotate: float = number(0.0, 0, 180, "largest rotation, degrees")
    colour_jitter: float = number(0.0, 0, 1, "largest change of brightness, contrast and tint, fraction")
    random_erasing: float = number(0.0, 0, 1, "side of the largest erased square, fraction")
    background_swap: float = number(0.0, 0, 1, "fraction of pictures whose flat background is painted over")
    shrink_and_paste: float = number(0.0, 0, 1, "fraction of pictures shrunk and pasted on a plain or noisy background")
    quality_jitter: float = number(0.0, 0, 1, "fraction of pictures blurred, compressed, made grey or noisy")
    style_jitter: float = number(0.0, 0, 1, "fraction of pictures filtered to look drawn in another style")
    drawings_per_character: int = number(
        0, 0, 10_000, "drawings of this project added to the training pictures, for each character"
    )

    class_map: bool = Field(
        False, description='whether springfield also answers "nobody" and where each character is, in a class map'
    )
    sampling_power: float = number(
        1.0, 0, 1, "characters are shown in proportion to their pictures to this power; needs class_map"
    )
    nobody: float = number(
        0.0, 0, 2, "pictures without known characters, fraction of the training pictures; needs class_map"
    )
    composites: float = number(0.0, 0, 1, "fraction of pictures joined with another one; needs class_map")
    captions: float = number(0.0, 0, 1, "fraction of pictures with words on them; needs class_map")

    precision: Literal["auto", "float32", "mixed_bfloat16"] = Field("auto", description="arithmetic of the training")
    export_weights: Literal["int8", "float16", "float32"] = Field(
        "float16", description="how the exported file stores weights"
    )
    flip_tta_threshold: float = number(
        0.0, 0, 1, "probability below which the recogniser averages with the mirrored picture"
    )
    seed: int = number(0, 0, 2**32 - 1, "decides initial weights, order and augmentation")

    @pydantic.model_validator(mode="after")
    def _sizes_fit_the_network(self) -> "Recipe":
        if self.progressive_fraction and self.network == "cnn":
            raise ValueError(
                "`progressive_fraction` must be 0 for the network cnn, whose dense layer fits one picture size; "
                "springfield pools over all places and can start with smaller pictures."
            )
        if self.class_map and self.network == "cnn":
            raise ValueError("`class_map` must be false for the network cnn, which flattens its last feature map.")
        needing = {"sampling_power": 1.0, "nobody": 0.0, "composites": 0.0, "captions": 0.0}
        changed = [name for name, off in needing.items() if getattr(self, name) != off]
        if changed and not self.class_map:
            raise ValueError(f"`class_map` must be true for {', '.join(changed)}.")
        return self

    @classmethod
    def load(cls, name: str, origins: dict[str, str] | None = None, /, **overrides: Any) -> "Recipe":
        """Read and check a recipe by its name.

        Args:
            name: Name of a file in `notebooks/params/` without its suffix, such as "springfield"; or
                "<file>/<variant>", such as "ablation/sgd".
            origins: Where each of the overrides comes from, for messages.
            **overrides: Values that replace the file's.

        Raises:
            UserError: There is no such recipe, or a value is unknown, of a wrong type or out of range.
        """
        values, files = _resolve(_name(name, "recipe"), ())
        files |= dict.fromkeys(overrides, "overrides") | (origins or {})
        return cls.check(values | overrides, {"network": f"{name}{SUFFIX}"} | files)


def names() -> list[str]:
    """List the recipes that can be trained: files, and the variants inside of files; not those of hidden files.

    A file that is damaged is one recipe, so that whoever asks for it, and nobody else, learns what is wrong with it.
    """
    found: list[str] = []
    for path in sorted(filter(Path.is_file, paths.PARAMS.glob(f"[!.]*{SUFFIX}"))):
        try:
            found += _recipes(path)
        except UserError:
            found.append(path.stem)
    return found


def for_source(name: str, source: str) -> str:
    """Name the recipe that a run uses on the pictures of a source: on the drawn sample its own, where there is one."""
    is_own = source == "sample" and (paths.PARAMS / SAMPLE / f"{name}{SUFFIX}").is_file()
    return f"{SAMPLE}/{name}" if is_own else name


def _resolve(name: str, seen: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, str]]:
    """Follow `extends:`; returns the values by name, and the file that each comes from."""
    if name in seen:
        raise UserError(f"{seen[0]}{SUFFIX}: `extends` goes in a circle: {' → '.join([*seen, name])}.")
    values, file = _read(name)
    base = values.pop("extends", None)
    inherited, origins = ({}, {}) if base is None else _resolve(_name(base, file), (*seen, name))
    return inherited | values, origins | dict.fromkeys(values, file)


def _read(name: str) -> tuple[dict[str, Any], str]:
    for path in (paths.PARAMS / f"{each}{SUFFIX}" for each in (name, name.rpartition("/")[0])):
        if path.is_file() and name in (recipes := _recipes(path)):
            return recipes[name], path.name
    raise unknown(name)


def _recipes(path: Path) -> dict[str, dict[str, Any]]:
    """Read the recipes in a file, by name: one, or each of its variants."""
    name, values = path.relative_to(paths.PARAMS).with_suffix("").as_posix(), records.read_yaml(path)
    variants = values.pop("variants", {})
    if not isinstance(variants, dict) or not all(isinstance(each, dict | None) for each in variants.values()):
        raise UserError(
            f"{path.name}: `variants` must hold names, each with what it changes: `sgd: {{optimizer: sgd}}`."
        )
    return {f"{name}/{variant}": values | (changes or {}) for variant, changes in variants.items()} or {name: values}


def unknown(name: str) -> UserError:
    """Say that there is no such recipe, and which there are."""
    variants = [each for each in names() if each.startswith(f"{name}/")]
    if variants:
        return UserError(f"{name}{SUFFIX} holds several recipes: {', '.join(variants)}.")
    hint = did_you_mean(name, sorted(names()))
    return UserError(f"There is no recipe {name!r}. {hint} A new one is a file in notebooks/params/.")


def _name(base: Any, file: str) -> str:
    if not isinstance(base, str) or Path(base).is_absolute() or ".." in Path(base).parts:
        raise UserError(f"{file}: a recipe has a name, such as springfield, not {base!r}.")
    return base.removesuffix(SUFFIX)
