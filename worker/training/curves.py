"""Records each epoch's figures: as a table, as a picture and as a log for TensorBoard."""

import csv
from dataclasses import dataclass, fields
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch.utils.tensorboard import SummaryWriter

HISTORY_NAME = "history.csv"
CURVES_NAME = "curves.png"
TENSORBOARD_NAME = "tensorboard"


@dataclass(frozen=True)
class Epoch:
    """One epoch's figures.

    Training: mean over its steps, of augmented images, the weights at each step and the recipe's own loss. Validation:
    plain cross-entropy, accuracy and AUCs of the averaged weights on unaugmented images; None without such images, and
    an AUC without images of its class or of others. `val_auc_mean` is that of melanoma and seborrheic keratosis, each
    against the rest.
    """

    epoch: int
    learning_rate: float
    train_loss: float
    train_accuracy: float
    val_loss: float | None
    val_accuracy: float | None
    val_auc_melanoma: float | None
    val_auc_mean: float | None
    seconds: float


def write_curves(history: list[Epoch], folder: Path) -> None:
    """Rewrite `history.csv` and `curves.png`, and append the last epoch to the log in `tensorboard/`."""
    _write_table(history, folder / HISTORY_NAME)
    draw_curves(history).savefig(folder / CURVES_NAME)
    last = history[-1]
    # A run killed between this and its checkpoint repeats the epoch: the later events replace these.
    with SummaryWriter(str(folder / TENSORBOARD_NAME), purge_step=last.epoch) as log:
        for name, value in vars(last).items():
            if name != "epoch" and value is not None:
                log.add_scalar(_tag(name), value, last.epoch)


def draw_curves(history: list[Epoch]) -> Figure:
    """Return loss and accuracy by epoch, for training and, where there is one, validation (the paper's figure 7)."""
    with mpl.rc_context({"font.size": 9}):
        figure = Figure(figsize=(9, 3.6), dpi=120, layout="constrained")
        for axes, measure in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
            for part, name in (("train", "training"), ("val", "validation, averaged weights")):
                points = [(e.epoch, getattr(e, f"{part}_{measure}")) for e in history]
                points = [point for point in points if point[1] is not None]
                if points:
                    axes.plot(*zip(*points, strict=True), marker=".", label=name)
            axes.set(xlabel="epoch", title=measure)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.grid(alpha=0.3)
            axes.legend()
    return figure


def _write_table(history: list[Epoch], path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Epoch)])
        writer.writeheader()
        writer.writerows(vars(epoch) for epoch in history)


def _tag(name: str) -> str:
    """Return `loss/train` for `train_loss`, so that TensorBoard draws training and validation in one group."""
    part, _, measure = name.partition("_")
    return f"{measure}/{part}" if part in ("train", "val") else name
