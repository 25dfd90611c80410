"""The settings of the preparation: how pictures become arrays and are divided into splits."""

import re
from typing import Any, Literal

from pydantic import Field

from lib.settings import Settings, number

# The files of the prepared pictures.
IMAGES = "images.npy"
NEAR_DUPLICATES = "near_duplicates.npy"
SETTINGS = "settings.json"
MANIFEST = "manifest.csv"

TEST_SET = "kaggle_test"  # the folder of the archive's own test set, and its split
CORRECTED = "corrected"  # ends the name of pictures, and of a published run, with corrected labels
# What the name of differently prepared pictures may end with; see `suffix`.
SUFFIX = r"-(random|resampled|given|no-kaggle-test|\d+px|pad|bounded|near-[\d.e-]+|corrected)$"
GIVEN_SPLITS = ("train", "validation", "test")  # the folders of a split that a source brings with it

# The study's characters, those of the original project. They are divided before the others; see `manifest`.
FREQUENT = 290

SAMPLE = {"min_pictures": 20, "picture_size": 40}  # what differs on the drawn sample


class Preparation(Settings):
    """Everything that decides the prepared pictures, besides the source."""

    picture_size: int = number(64, 16, 512, "height and width of a prepared picture, pixels")
    resize_mode: Literal["stretch", "pad", "bounded"] = Field(
        "stretch",
        description="how a picture becomes square: stretch, as the original project did; pad; or bounded: uniform "
        "borders are cropped, then stretched up to 16:9, padded beyond",
    )
    min_pictures: int = number(
        FREQUENT, 1, 999_999, f"characters with fewer pictures are excluded ({FREQUENT} in the original project)"
    )
    split: Literal["grouped", "random", "resampled", "given"] = Field(
        "grouped",
        description="grouped keeps near-duplicates on one side of the split, random does not; resampled first draws as "
        "many pictures of each character with replacement, as the original project did; given takes the train, "
        "validation and test folders of the source",
    )
    exclude_kaggle_test: bool = Field(
        False, description="true or 1 excludes the frames that match a picture of the archive's own test set"
    )
    # Chosen by looking at pairs of the Simpsons archive: beyond these two limits other scenes begin.
    near_rms: float = number(
        15.0, 0, 255, "near-duplicates have thumbnails that differ by less than this, grey levels RMS"
    )
    near_bits: int = number(24, 0, 255, "or difference hashes, of 256 bits, that differ by at most this many")
    # Of the archive's test pictures 95 % are within 1.8 of the frame that they are scaled copies of; the two nearest
    # frames with different labels that are not one frame are 3.3 apart.
    same_rms: float = number(
        2.5, 0, 255, "thumbnails of one and the same picture differ by less than this, grey levels RMS"
    )
    seed: int = number(0, 0, 2**32 - 1, "decides the split")

    @classmethod
    def of(cls, source: str, settings: dict[str, Any], origins: dict[str, str] | None = None) -> "Preparation":
        """Make the settings for a source: `"sample"`, `"kaggle"`, or a path.

        The drawn sample has fewer pictures of each character than the archive, and drawings are recognised as well at a
        size that takes less than half of the time.

        `settings` has the values that differ from the defaults; `origins` says where each comes from, for messages.

        Raises:
            UserError: A value is unknown, of a wrong type or out of range.
        """
        return cls.check((SAMPLE if source == "sample" else {}) | settings, origins)


DEFAULTS = Preparation()


def suffix(source: str, chosen: Preparation, is_corrected: bool) -> str:
    """What distinguishes differently prepared pictures of one source; each combination has folders of its own."""
    default = Preparation.of(source, {})
    near, default_near = ((each.near_rms, each.near_bits, each.same_rms) for each in (chosen, default))
    parts = {
        chosen.split: chosen.split != default.split,
        "no-kaggle-test": chosen.exclude_kaggle_test,
        f"{chosen.picture_size}px": chosen.picture_size != default.picture_size,
        chosen.resize_mode: chosen.resize_mode != default.resize_mode,
        "-".join(["near", *(str(limit).removesuffix(".0") for limit in near)]): near != default_near,
        CORRECTED: is_corrected,
    }
    return "".join(f"-{part}" for part, is_given in parts.items() if is_given)


def source_of(data_name: str) -> str:
    """Give the name of the source of prepared pictures, whose name a `suffix` may end."""
    while found := re.search(SUFFIX, data_name):
        data_name = data_name[: found.start()]
    return data_name
