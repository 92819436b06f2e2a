"""Pictures of an evaluation, large enough in their letters to be read on a telephone."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure as Picture
from sklearn.metrics import confusion_matrix, roc_curve

from shared.bundle import Figure
from shared.domain import CLASSES
from worker.training.figures import CALIBRATION_BINS, MELANOMA, Readings, calibration_bins
from worker.training.robustness import TARGET_DROP, Robustness
from worker.training.words import in_words

ROC, CALIBRATION, CONFUSION, ROBUSTNESS = "roc.png", "calibration.png", "confusion.png", "robustness.png"
_SIDE_INCH, _DPI = 4.5, 160
_COLOURS = {"melanoma": "#b3202c", "seborrheic_keratosis": "#2f6f9f"}
_FEWEST = 5  # images in a bin that is drawn


def draw_pictures(folder: Path, readings: Readings, figures: dict[str, Figure]) -> None:
    """Write `roc.png`, `calibration.png` and `confusion.png`."""
    for name, draw in ((ROC, _draw_roc), (CALIBRATION, _draw_calibration), (CONFUSION, _draw_confusion)):
        picture = Picture(figsize=(_SIDE_INCH, _SIDE_INCH), dpi=_DPI, layout="constrained")
        draw(picture.subplots(), readings, figures)
        picture.savefig(folder / name)


def draw_robustness(folder: Path, robustness: list[Robustness]) -> None:
    """Write `robustness.png`: for each disturbance the drop of melanoma AUC and the share of decisions changed."""
    picture = Picture(figsize=(2 * _SIDE_INCH, 1 + 0.32 * len(robustness)), dpi=_DPI, layout="constrained")
    drop, turned = picture.subplots(1, 2, sharey=True)
    rows = range(len(robustness))
    for axes, name in ((drop, "auc_drop"), (turned, "turned")):
        figures = [getattr(found, name) for found in robustness]
        values = np.array([figure.value for figure in figures])
        spans = np.abs([(figure.low, figure.high) for figure in figures] - values[:, None]).T
        axes.errorbar(values, rows, xerr=spans, fmt="o", color=_COLOURS["melanoma"], elinewidth=1)
        axes.axvline(0, color="0.7", linewidth=1)
    drop.axvline(TARGET_DROP, color="0.35", linewidth=1, linestyle=":")
    drop.set_yticks(rows, [found.disturbance for found in robustness])
    drop.invert_yaxis()
    drop.set(xlabel=f"drop of melanoma AUC (dotted: {TARGET_DROP})")
    turned.set(xlabel="share of decisions changed")
    picture.savefig(folder / ROBUSTNESS)


def _draw_roc(axes, readings: Readings, figures: dict[str, Figure]) -> None:
    """Draw a curve for each class that the challenge ranks by, and the operating points as they are used."""
    for name, colour in _COLOURS.items():
        if figure := figures.get(f"auc_{name}"):
            index = CLASSES.index(name)
            false, true, _ = roc_curve(readings.labels == index, readings.probabilities[:, index])
            label = f"{in_words(name)}\nAUC {figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})"
            axes.plot(1 - false, true, color=colour, linewidth=2, label=label)
    for point in readings.referred:
        if {f"sensitivity_{point}", f"specificity_{point}"} <= figures.keys():
            at = figures[f"specificity_{point}"].value, figures[f"sensitivity_{point}"].value
            axes.plot(*at, "o", color=_COLOURS["melanoma"], markersize=8, markeredgecolor="white")
            axes.annotate(point, at, (8, -14), textcoords="offset points")
    axes.plot((1, 0), (0, 1), color="0.7", linewidth=1, linestyle=":")
    axes.set(xlabel="specificity", ylabel="sensitivity", xlim=(1.02, -0.02), ylim=(-0.02, 1.02), aspect="equal")
    axes.legend(loc="lower right", frameon=False)


def _draw_calibration(axes, readings: Readings, figures: dict[str, Figure]) -> None:
    """Draw how often it was so against how sure the network was, with the 95% interval of each bin."""
    answer = readings.probabilities.argmax(axis=1)
    curves = (
        ("answer is right", readings.probabilities.max(axis=1), answer == readings.labels, "0.35", "s"),
        ("is a melanoma", readings.probabilities[:, MELANOMA], readings.melanoma, _COLOURS["melanoma"], "o"),
    )
    axes.plot((0, 1), (0, 1), color="0.7", linewidth=1, linestyle=":")
    for label, said, was_so, colour, marker in curves:
        means, shares, halves = _bins(said, was_so)
        axes.errorbar(means, shares, halves, color=colour, marker=marker, linewidth=2, elinewidth=1, label=label)
    error = figures["expected_calibration_error"]
    axes.set_title(f"calibration error {error.value:.3f} ({error.low:.3f} to {error.high:.3f})", fontsize="medium")
    axes.set(xlabel="probability that the network gives", ylabel="share of images where it is so")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axes.legend(loc="upper left", frameon=False)


def _bins(said: np.ndarray, was_so: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean probability, share, and half of its interval (Wald's, cut to [0, 1], 2 rows) of each bin."""
    bins = calibration_bins(said)
    n = np.bincount(bins, minlength=CALIBRATION_BINS)
    drawn = n >= _FEWEST
    mean = np.bincount(bins, said, CALIBRATION_BINS)[drawn] / n[drawn]
    share = np.bincount(bins, was_so, CALIBRATION_BINS)[drawn] / n[drawn]
    half = 1.96 * np.sqrt(share * (1 - share) / n[drawn])
    return mean, share, np.stack([np.minimum(half, share), np.minimum(half, 1 - share)])


def _draw_confusion(axes, readings: Readings, figures: dict[str, Figure]) -> None:
    """Draw how many images of each class got each answer, shaded by their share of the class."""
    counts = confusion_matrix(readings.labels, readings.probabilities.argmax(axis=1), labels=range(len(CLASSES)))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        text = f"{count}\n{shares[row, column]:.0%}"
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize="large")
    names = [in_words(name).replace(" ", "\n") for name in CLASSES]
    axes.set_xticks(range(len(CLASSES)), names)
    axes.set_yticks(range(len(CLASSES)), names, rotation=90, va="center")
    axes.set(xlabel="the network's answer", ylabel="diagnosis")
    accuracy = figures["accuracy"]
    axes.set_title(f"accuracy {accuracy.value:.3f} ({accuracy.low:.3f} to {accuracy.high:.3f})", fontsize="medium")
