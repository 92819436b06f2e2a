"""Turns trained weights into a bundle: calibrates, chooses thresholds, measures, writes and reads it back."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from sklearn.metrics import roc_curve
from torch.nn import functional

from shared.bundle import CARD_NAME, MANIFEST_NAME, WEIGHTS_NAME, Manifest, Preprocessing
from shared.domain import CLASSES, OperatingPoint
from worker.model import choose_device, load_model
from worker.network import LesionNetwork, in_float32
from worker.training.dataset import LabelledImages
from worker.training.figures import MELANOMA, Readings, measure
from worker.training.fine_tune import IMAGENET_MEAN, IMAGENET_STD, predict
from worker.training.recipe import Recipe

_SCREENING_SENSITIVITY = 0.95
_STRONG_ACTIVATION = 0.95
"""Quantile of the validation images' strongest activations that is drawn at full strength."""

_LEAST_SCALE = 1e-3
"""A class that hardly activates on its own images (a network that learnt nothing of it) is drawn faintly."""

LIMITS = (
    "A decision aid for clinicians: it decides nothing alone.",
    "Trained on dermoscopy images of mostly light skin; on other skin and on smartphone photographs it is unproven.",
    "Knows three diagnoses; carcinomas and everything else are forced into one of them.",
    "Does not tell whether a photograph shows a lesion at all.",
    "Thresholds come from a small validation set; see the intervals.",
)


def write_bundle(
    folder: Path,
    weights: Path,
    recipe: Recipe,
    train: LabelledImages,
    val: LabelledImages,
    *,
    name: str,
    version: str,
    licence: str,
) -> Path:
    """Write the bundle, verified by loading it, and return its folder. Everything is chosen on `val`."""
    folder.mkdir(parents=True, exist_ok=True)
    network = LesionNetwork()
    state = torch.load(weights, map_location="cpu", weights_only=True)
    half = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    save_file({key: value.contiguous() for key, value in half.items()}, folder / WEIGHTS_NAME)
    (folder / WEIGHTS_NAME).chmod(0o644)  # the library writes for its own user alone, but workers are another
    network.load_state_dict(in_float32(half))
    logits, maps = predict(network, val)
    temperature = fit_temperature(logits, val.labels)
    probabilities = (logits.double() / temperature).softmax(dim=1).numpy()
    labels = val.labels.numpy()
    manifest = Manifest(
        name=name,
        version=version,
        architecture=recipe.network,
        labels=CLASSES,
        preprocessing=Preprocessing(input_side=recipe.input_side, mean=IMAGENET_MEAN, std=IMAGENET_STD),
        temperature=temperature,
        operating_points=choose_operating_points(probabilities, labels),
        default_operating_point="screening",
        heatmap_scales=_heatmap_scales(maps, labels),
        weights_sha256=hashlib.sha256((folder / WEIGHTS_NAME).read_bytes()).hexdigest(),
        data_sha256=train.digest,
        trained_on=f"{len(train)} images, chosen and calibrated on {len(val)}",
        licence=licence,
        figures={},
        limits=LIMITS,
    )
    manifest = manifest.model_copy(update={"figures": _figures(probabilities, labels, val.ids, manifest)})
    (folder / MANIFEST_NAME).write_text(manifest.model_dump_json(indent=2) + "\n")
    (folder / CARD_NAME).write_text(write_card(manifest))
    load_model(folder, choose_device("cpu"))
    return folder


def _figures(probabilities: np.ndarray, labels: np.ndarray, ids: tuple[str, ...], manifest: Manifest) -> dict:
    referred = {p.name: probabilities[:, MELANOMA] >= p.threshold for p in manifest.operating_points}
    return measure(Readings(np.array(ids), labels, probabilities, referred))


def fit_temperature(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the temperature with the least negative log-likelihood (Guo et al. 2017, arXiv 1706.04599)."""
    candidates = np.geomspace(0.2, 5, 400)
    losses = [functional.cross_entropy(logits.double() / t, labels).item() for t in candidates]
    return float(candidates[int(np.argmin(losses))])


def choose_operating_points(probabilities: np.ndarray, labels: np.ndarray) -> tuple[OperatingPoint, ...]:
    """Return `screening` (sensitivity of at least 95 %) and `balanced` (the greatest sum of both, Youden 1950).

    A threshold lies midway to the next lower probability, so that a rounding error cannot turn a decision.
    """
    melanoma = labels == CLASSES.index("melanoma")
    curve = roc_curve(melanoma, probabilities[:, CLASSES.index("melanoma")], drop_intermediate=False)
    false_positive, true_positive, thresholds = (values[1:] for values in curve)  # the first point refers nobody
    screening = int(np.argmax(true_positive >= _SCREENING_SENSITIVITY))
    balanced = int(np.argmax(true_positive - false_positive))
    midway = (thresholds + np.append(thresholds[1:], 0.0)) / 2
    return tuple(
        OperatingPoint(
            name=point,
            threshold=float(midway[at]),
            sensitivity=float(true_positive[at]),
            specificity=float(1 - false_positive[at]),
        )
        for point, at in (("screening", screening), ("balanced", balanced))
    )


def _heatmap_scales(maps: torch.Tensor, labels: np.ndarray) -> tuple[float, ...]:
    """Return per class the activation that only one in twenty images of that class exceeds."""
    strongest = maps.amax(dim=(2, 3)).numpy()
    usual = (float(np.quantile(strongest[labels == i, i], _STRONG_ACTIVATION)) for i in range(len(CLASSES)))
    return tuple(max(scale, _LEAST_SCALE) for scale in usual)


def write_card(manifest: Manifest) -> str:
    """Return the bundle's card as Markdown."""
    figures = "\n".join(
        f"| {name.replace('_', ' ')} | {figure.value:.3f} | {figure.low:.3f} to {figure.high:.3f} | {figure.n} |"
        for name, figure in manifest.figures.items()
    )
    points = "\n".join(
        f"| {p.name} | {p.threshold:.4f} | {p.sensitivity:.3f} | {p.specificity:.3f} |"
        for p in manifest.operating_points
    )
    limits = "\n".join(f"- {limit}" for limit in manifest.limits)
    return f"""# {manifest.name} {manifest.version}

{manifest.architecture}, {manifest.preprocessing.input_side} px, one forward pass. Written {datetime.now(UTC):%Y-%m-%d}.
Licence: {manifest.licence}. Trained on {manifest.trained_on}.

**A decision aid for clinicians. It decides nothing alone.**

## Figures

On the validation images, which also chose the epoch, the temperature and the thresholds: they flatter. 95 % bootstrap
intervals.

| figure | value | interval | images |
| --- | --- | --- | --- |
{figures}

## Operating points

A case is referred when its melanoma probability reaches the threshold.

| name | threshold | sensitivity | specificity |
| --- | --- | --- | --- |
{points}

## Limits

{limits}
"""
