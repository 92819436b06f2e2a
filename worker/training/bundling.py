"""Turns a run's weights and a cross-validation's predictions into a bundle: calibrated, described, and read back."""

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from shared.bundle import (
    CARD_NAME,
    EXPERIMENTS_NAME,
    FEATURES_NAME,
    MANIFEST_NAME,
    MAX_WEIGHTS_BYTES,
    WEIGHTS_NAME,
    FamiliarityCheck,
    Manifest,
    read_card,
    read_manifest,
)
from shared.domain import CLASSES
from shared.errors import InputUnusable
from worker.model import Model, choose_commands_device, load_model
from worker.network import leave_out_shared, name_classes
from worker.quality import NOT_DERMOSCOPIC
from worker.training.batches import OnProgress, in_batches
from worker.training.calibration import POINTS, calibrate, describe_points, read_nested
from worker.training.card import describe_gate, list_limits, write_card
from worker.training.dataset import Source, read_images
from worker.training.familiarity import learn_familiarity
from worker.training.figures import Readings, measure
from worker.training.gate import Flags
from worker.training.groups import People, measure_groups
from worker.training.predictions import PREDICTIONS_NAME, Predictions, write_predictions
from worker.training.record import Run

_STRONG_ACTIVATION = 0.95
"""Quantile of a class's strongest activations on its own images that is drawn at full strength."""

_LEAST_SCALE = 1e-3
"""A class that hardly activates on its own images (a network that learnt nothing of it) is drawn faintly."""


@dataclass(frozen=True)
class Description:
    """What only a person knows of a bundle.

    `sources`: each data set and the starting weights, with their licences. `limits`: those that come from the data.
    """

    name: str
    version: str
    licence: str
    sources: tuple[str, ...]
    limits: tuple[str, ...]
    people: People
    experiments: Path | None


def write_bundle(
    folder: Path,
    weights: Path,
    run: Run,
    predictions: Predictions,
    sources: Sequence[Source],
    description: Description,
    on_progress: OnProgress,
    *,
    taught: str = "",
) -> Path:
    """Write the bundle, verified by loading it, and return its folder.

    Temperature, thresholds and figures come from the predictions, the heatmaps' scales from the network's activations
    on the images of `sources`. The predictions stay in the bundle: they name what its weights have learnt from. The
    bundle is written as a whole or not at all; an earlier one stays until then.
    `taught`: how the networks that made the predictions were taught otherwise than the run.

    Raises:
        InputUnusable: `weights_unusable`; `predictions_one_fold`; `data_unusable`.
        ModelUnusable: what was written cannot be loaded.
    """
    nested = read_nested(predictions)
    groups = measure_groups(nested, description.people) if description.people else []
    with _made_anew(folder) as made:
        digest = _write_half(weights, made / WEIGHTS_NAME)
        manifest = _describe(run, predictions, nested, description, digest, f", {taught}," if taught else "")
        write_predictions(predictions, made / PREDICTIONS_NAME)
        if description.experiments:
            shutil.copyfile(description.experiments, made / EXPERIMENTS_NAME)
        networks = [measure(nested.take(predictions.folds == fold)) for fold in np.unique(predictions.folds)]
        recipes = (*(run.earlier or ()), run.recipe)
        card = write_card(manifest, recipes, networks, groups, has_experiments=bool(description.experiments))
        (made / CARD_NAME).write_text(card, encoding="utf-8")
        _write_manifest(made, manifest)
        model = load_model(made, choose_commands_device())
        scales, shares, lesions = _look(model, sources, on_progress)
        check = write_familiarity(made, shares, lesions, sources)
        rewrite(made, manifest.model_copy(update={"heatmap_scales": scales, "familiarity": check}), card)
    return folder


@contextmanager
def _made_anew(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder, whose files are moved into `folder` once the block has succeeded."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    with TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as made:
        yield Path(made)
        for file in sorted(Path(made).iterdir(), key=lambda file: file.name == MANIFEST_NAME):  # the manifest last
            file.chmod(0o644)  # files are written for their owner alone, but workers run as another user
            file.replace(folder / file.name)


def _describe(
    run: Run, predictions: Predictions, nested: Readings, description: Description, weights_sha256: str, taught: str
) -> Manifest:
    """Return the manifest; its heatmaps' scales are not known yet."""
    calibration, folds = calibrate(predictions.logits, predictions.labels), len(np.unique(predictions.folds))
    figures = measure(nested)
    return Manifest(
        name=description.name,
        version=description.version,
        architecture=run.recipe.network,
        labels=CLASSES,
        preprocessing=run.recipe.preprocessing,
        temperature=calibration.temperature,
        operating_points=describe_points(calibration, figures),
        default_operating_point=POINTS[0],
        plausible_from=calibration.plausible_from,
        heatmap_scales=(1.0,) * len(CLASSES),
        weights_sha256=weights_sha256,
        data_sha256=run.data_sha256,
        trained_on=run.trained_on,
        licence=description.licence,
        sources=description.sources,
        figures=figures,
        measured_on=(
            f"Cross-validated on {nested.n_images} images: each was read by one of {folds} networks of the same"
            f" recipe{taught} that had not seen it, with temperature and thresholds chosen on the other folds"
        ),
        limits=list_limits(description.limits),
    )


def add_familiarity(folder: Path, sources: Sequence[Source], on_progress: OnProgress) -> None:
    """Add the statistics of its training images' features to a bundle, or renew them; weights and figures stay.

    Raises:
        InputUnusable: `data_unusable`.
        ModelUnusable: the bundle cannot be loaded.
    """
    model = load_model(folder, choose_commands_device(), with_familiarity=False)
    _, shares, lesions = _look(model, sources, on_progress)
    check = write_familiarity(folder, shares, lesions, sources)
    rewrite(folder, model.manifest.model_copy(update={"familiarity": check}), read_card(folder))


def note_flags(folder: Path, flags: Sequence[Flags]) -> None:
    """Write into manifest and card what share of the images of each kind was flagged as not dermoscopic.

    Raises:
        InputUnusable: `familiarity_missing`: the bundle has no statistics of its training images.
    """
    manifest = read_manifest(folder)
    if manifest.familiarity is None:
        raise InputUnusable(
            "familiarity_missing",
            f"The bundle in {folder} has no statistics of its training images. `dermqueue gate learn` adds them.",
        )
    flagged = {each.kind: each.of(NOT_DERMOSCOPIC) for each in flags}
    check = manifest.familiarity.model_copy(update={"flagged": manifest.familiarity.flagged | flagged})
    rewrite(folder, manifest.model_copy(update={"familiarity": check}), read_card(folder))


def rewrite(folder: Path, manifest: Manifest, card: str) -> None:
    """Write manifest and card; the card's section on unfamiliar photographs comes from the manifest."""
    _write_manifest(folder, manifest)
    (folder / CARD_NAME).write_text(describe_gate(card, manifest.familiarity), encoding="utf-8")


def write_familiarity(
    folder: Path, shares: Sequence[np.ndarray], groups: Sequence[str], sources: Sequence[Source]
) -> FamiliarityCheck:
    """Write `features.safetensors` and return the manifest's entry.

    `shares` are those of the training images, (n, K) of each stage; `groups` (n) names their lesions or patients.
    """
    familiarity, threshold = learn_familiarity(shares, groups)
    data = familiarity.to_bytes()
    (folder / FEATURES_NAME).write_bytes(data)
    (folder / FEATURES_NAME).chmod(0o644)  # like the other files: workers run as another user
    learnt_on = f"{len(shares[0])} images of {', '.join(images.name for images, _ in sources)}"
    return FamiliarityCheck(sha256=hashlib.sha256(data).hexdigest(), threshold=threshold, learnt_on=learnt_on)


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    (folder / MANIFEST_NAME).write_text(manifest.model_dump_json(indent=2) + "\n")


def _write_half(weights: Path, target: Path) -> str:
    """Write the weights in half precision and return the file's digest."""
    try:
        state = load_file(weights)
    except (SafetensorError, OSError) as error:
        raise InputUnusable("weights_unusable", f"{weights} is not a safetensors file.") from error
    for key in ("classifier.weight", "classifier.bias"):
        if key in state:
            state[key] = leave_out_shared(state[key])
    half = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    if broken := [key for key, value in half.items() if not torch.isfinite(value).all()]:
        raise InputUnusable("weights_unusable", f"{weights}: {broken[0]} is not finite in half precision.")
    save_file({key: value.contiguous() for key, value in half.items()}, target, metadata=name_classes(CLASSES))
    if (size := target.stat().st_size) > MAX_WEIGHTS_BYTES:
        at_most = f"a bundle's weights may have at most {MAX_WEIGHTS_BYTES / 1e6:.0f} MB"
        raise InputUnusable("weights_unusable", f"{target} has {size / 1e6:.0f} MB; {at_most}.")
    with target.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _look(
    model: Model, sources: Sequence[Source], on_progress: OnProgress
) -> tuple[tuple[float, ...], list[np.ndarray], tuple[str, ...]]:
    """Return per class the activation that only one in twenty of its images exceeds, all shares of each stage, and
    the images' lesions or patients.
    """
    preprocessing = model.manifest.preprocessing
    images = read_images(sources, preprocessing, on_image=partial(on_progress, "decoding"))
    strongest, shares = [], []
    for batch in in_batches(images.pixels.numpy(), partial(on_progress, "looking")):
        reading = model.read(batch)
        strongest.append(reading.maps.max(axis=(2, 3)))
        shares.append(reading.shares)
    strongest, labels = np.concatenate(strongest), images.labels.numpy()
    usual = (float(np.quantile(strongest[labels == i, i], _STRONG_ACTIVATION)) for i in range(len(CLASSES)))
    scales = tuple(max(scale, _LEAST_SCALE) for scale in usual)
    return scales, list(map(np.concatenate, zip(*shares, strict=True))), images.groups
