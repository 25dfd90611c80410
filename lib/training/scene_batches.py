"""Pictures of one character, composites of two and pictures of nobody → batches for a network with both heads.

What a batch holds follows from (seed, epoch, position) alone, as in `lib.data.batches`.
"""

import dataclasses

import cv2
import keras
import numpy as np

from lib.data.batches import WORKERS, Augmentation
from lib.training import composites, located, outliers, sampling
from lib.training.composites import Scene

CUT_OUT_SHARE = 0.25  # of the composites, in which a figure is cut out and pasted; the others are side by side
LEAST_CUT_OUT = 0.15  # of a picture that a figure fills, to be cut out
LEAST_INSIDE = 0.3  # share of a box that augmentation leaves in the picture, for its place to count


@dataclasses.dataclass(frozen=True)
class Mixture:
    """What an epoch is made of.

    Attributes:
        power: How frequent characters are shown, in proportion to their number to this power; see
            `sampling.balanced_rows`.
        composite_share: Share of the pictures of known characters that become composites with another picture.
        stranger_share: Share of the composites whose other half is a picture of nobody.
        outlier_share: Pictures of nobody, as a share of those of known characters.
        caption_share: Share of all pictures that are written on.
        made_share: Share of the pictures of nobody that are made on the spot (text, patterns, scenery, figures,
            backgrounds); the rest are those that were given.
        background_share: Share of those made on the spot that are parts of frames beside their characters.
    """

    power: float = 1.0
    composite_share: float = 0.0
    stranger_share: float = 0.25
    outlier_share: float = 0.0
    caption_share: float = 0.0
    made_share: float = 0.5
    background_share: float = 0.15


class SceneBatches(keras.utils.PyDataset):
    """Scenes in batches.

    Args:
        images: `uint8 (n, size, size, 3)`, RGB, one array or several joined.
        labels: `int (n,)`, 0 to num_characters - 1.
        rows: Which of the pictures.
        boxes: For each of the images its character's box, shares of the picture, `float (n, 4)`, NaN where unknown.
        strangers: Pictures of nobody, `uint8 (m, size, size, 3)`, RGB; may be empty.
        num_characters: Number of labels.
        mixture: What an epoch is made of.
        augmentation: What happens to each picture.
        batch_size: Pictures in a batch; the last one of an epoch may hold fewer.
        seed: What everything follows from.
        stride: Pixels a cell of the class map is wide.
        small_size: Side that pictures are shrunk to in the first epochs, pixels.
        small_epochs: How many epochs those are.
        figures: Invented figures, drawn beforehand since each takes 5 ms, `uint8 (k, size, size, 3)`; may be empty.
    """

    def __init__(
        self,
        images,
        labels: np.ndarray,
        rows: np.ndarray,
        boxes: np.ndarray,
        strangers: np.ndarray,
        *,
        num_characters: int,
        mixture: Mixture,
        augmentation: Augmentation,
        batch_size: int = 64,
        seed: int = 0,
        stride: int = 16,
        small_size: int = 0,
        small_epochs: int = 0,
        figures: np.ndarray = (),
    ):
        super().__init__(workers=WORKERS)
        self.images, self.labels = images, np.asarray(labels, "int64")
        self.rows, self.boxes, self.strangers = np.asarray(rows, "int64"), np.asarray(boxes, float), strangers
        self.num_characters, self.mixture, self.augmentation = num_characters, mixture, augmentation
        self.batch_size, self.seed, self.stride = batch_size, seed, stride
        self.small_size, self.small_epochs, self.figures = small_size, small_epochs, figures
        self.begin(0)

    def __len__(self) -> int:
        """Count the batches of an epoch."""
        return -(-len(self.order) // self.batch_size)

    def begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Draw the pictures of an epoch, counted from 0; `logs` is there for Keras and not used.

        Epochs have the same length, but for rounding: -1 stands for a picture of nobody.
        """
        self.epoch = epoch
        rng = np.random.default_rng((self.seed, epoch))
        known = self.rows[sampling.balanced_rows(self.labels[self.rows], self.mixture.power, rng)]
        nobody = np.full(round(self.mixture.outlier_share * len(self.rows)), -1)
        self.order = rng.permutation(np.concatenate([known, nobody]))

    def __getitem__(self, position: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Make one batch of the present epoch.

        Args:
            position: 0 to `len(self) - 1`.

        Returns:
            Pictures, `uint8 (batch_size, size, size, 3)`, and the targets of both heads; see `composites.target` and
            `composites.cell_target`.
        """
        rng = np.random.default_rng((self.seed, self.epoch, position))
        scenes = [self._scene(row, rng) for row in self.order[position * self.batch_size :][: self.batch_size]]
        pictures = np.stack([scene.picture for scene in scenes])
        if self.epoch < self.small_epochs:
            square = (self.small_size, self.small_size)
            pictures = np.stack([cv2.resize(picture, square, interpolation=cv2.INTER_AREA) for picture in pictures])
        cells = -(-pictures.shape[1] // self.stride)
        return pictures, {
            "probabilities": np.stack([composites.target(scene, self.num_characters) for scene in scenes]),
            "class_map": np.stack([composites.cell_target(scene, self.num_characters, cells) for scene in scenes]),
        }

    def _scene(self, row: int, rng: np.random.Generator) -> Scene:
        mixture, augmentation = self.mixture, self.augmentation
        scene = self._known(row) if row >= 0 else self._nobody(rng)
        if row >= 0 and rng.random() < mixture.composite_share:
            scene = self._composite(scene, rng)
            # A composite is small figures already: shrinking it again shows nobody anything.
            augmentation = dataclasses.replace(
                augmentation, placement=0.0, backdrop=0.0, cutout=augmentation.cutout / 2
            )
        scene = scene.moved(*located.augment(scene.picture, augmentation, rng))
        if rng.random() < mixture.caption_share:
            scene = dataclasses.replace(scene, picture=outliers.caption(scene.picture, rng))
        return _within(scene)

    def _known(self, row: int) -> Scene:
        box = self.boxes[row]
        return composites.single(
            self.images[np.array([row])][0], int(self.labels[row]), None if np.isnan(box[0]) else box
        )

    def _composite(self, scene: Scene, rng: np.random.Generator) -> Scene:
        if rng.random() < self.mixture.stranger_share:
            other = self._nobody(rng)
        else:
            other = self._known(int(self.rows[rng.integers(len(self.rows))]))
        if other.labels and rng.random() < CUT_OUT_SHARE:
            painted, mask = located.swap_background(other.picture, rng)
            if mask is not None and mask.mean() > LEAST_CUT_OUT:
                return composites.paste_beside(scene, dataclasses.replace(other, picture=painted), mask, rng)
        pair = [composites.crop_around(each, rng) if each.labels else each for each in (scene, other)]
        if rng.random() < 0.5:
            pair.reverse()
        return composites.side_by_side(*pair, rng)

    def _nobody(self, rng: np.random.Generator) -> Scene:
        if len(self.strangers) and rng.random() >= self.mixture.made_share:
            return Scene(self.strangers[rng.integers(len(self.strangers))])
        size = self.images[np.array([0])].shape[1]
        if rng.random() < self.mixture.background_share:
            row = int(self.rows[rng.integers(len(self.rows))])
            if not np.isnan(self.boxes[row, 0]):
                part = outliers.background(self.images[np.array([row])][0], self.boxes[row], rng)
                if part is not None:
                    return Scene(part)
        kind = rng.choice(4, p=(0.2, 0.3, 0.2, 0.3))
        if kind == 3 and len(self.figures):
            return Scene(self.figures[rng.integers(len(self.figures))])
        if kind == 2:
            return Scene(outliers.scenery(size, rng))
        if kind == 1:
            page = outliers.scenery(size, rng) if rng.random() < 0.3 else outliers.pattern(size, rng)
            return Scene(outliers.caption(page, rng))
        return Scene(outliers.pattern(size, rng))


def _within(scene: Scene) -> Scene:
    """Leave out the boxes of characters that augmentation pushed out of the picture for the most part, not the names.

    A name stays, since its face may be half in the picture; its place then is not known.
    """
    boxes, exact = [], []
    for box, was_exact in zip(scene.boxes, scene.exact, strict=True):
        inside = np.clip(box, 0, 1)
        share = np.prod(np.clip(inside[2:] - inside[:2], 0, None)) / max(np.prod(box[2:] - box[:2]), 1e-9)
        lost = was_exact and share < LEAST_INSIDE
        boxes.append(composites.WHOLE if lost else box)
        exact.append(was_exact and not lost)
    return dataclasses.replace(scene, boxes=tuple(boxes), exact=tuple(exact))
