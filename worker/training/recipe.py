"""Recipes: small files that say how a network is trained."""

import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.bundle import Architecture, Preprocessing
from shared.errors import InputUnusable

RECIPES = Path(__file__).parent / "recipes"

_IMAGENET: dict[Architecture, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "resnet50-v1": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "efficientnet-lite0": ((127 / 255,) * 3, (128 / 255,) * 3),
}
"""Mean and standard deviation per channel that each network's ImageNet weights were trained with."""


class Augmentation(BaseModel):
    """Random changes to each training image, drawn uniformly from ± the value given; 0 switches one off.

    Flips are always on: a lesion has no up and no left. There is no JPEG among the degradations: whatever a clinic
    sends goes through the same JPEG as the training images (`worker.frame.squash`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rotation_deg: float = Field(0, ge=0, le=180)
    scale: float = Field(0, ge=0, lt=1, description="share of the size")
    stretch: float = Field(0, ge=0, lt=1, description="share of the width; training images are squashed frames")
    shift: float = Field(0, ge=0, lt=0.5, description="share of the side")
    hairs: int = Field(0, ge=0, le=50, description="dark lines, at most this many, on half of the images")
    brightness: float = Field(0, ge=0, lt=1)
    contrast: float = Field(0, ge=0, lt=1)
    saturation: float = Field(0, ge=0, lt=1)
    hue_deg: float = Field(0, ge=0, le=180, description="rotation of the hue")
    warmth: float = Field(0, ge=0, lt=1, description="red gets brighter by this share and blue darker, or the reverse")
    degraded_share: float = Field(0, ge=0, le=1, description="share of images whose focus changes; likewise for noise")
    blur_px: float = Field(0, ge=0, le=8, description="standard deviation of the blur, at most")
    sharpen: float = Field(0, ge=0, le=4, description="times the detail that the blur would remove, at most")
    noise: float = Field(0, ge=0, le=0.5, description="standard deviation, at most, of values in [0, 1]")
    cutout: float = Field(0, ge=0, le=0.5, description="area of a square painted over, at most; share of the image")


class Loss(BaseModel):
    """What is minimised: cross-entropy, plain if every value is 0, and the share of heatmaps outside the lesion."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    label_smoothing: float = Field(0, ge=0, lt=1, description="share of the target spread over all classes")
    class_balance: float = Field(0, ge=0, le=1, description="an image weighs (1 / its class's frequency) to this power")
    focal_gamma: float = Field(0, ge=0, le=5, description="a class's share of the loss weighs (1 - p) to this power")
    mixup_alpha: float = Field(0, ge=0, le=2, description="two images are blended by Beta(alpha, alpha)")
    teacher_share: float = Field(0, ge=0, le=1, description="share of the target that the teacher gives")
    off_lesion: float = Field(0, ge=0, le=10, description="weight of the heatmaps' share outside the lesion")


class BaseRecipe(BaseModel):
    """How a network sees an image: what all kinds of recipe have in common."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    network: Architecture
    target: Literal["class"] = "class"
    normalisation: Literal["imagenet", "image-mean"] = "imagenet"
    input_side: int = Field(ge=32, le=512, multiple_of=32, description="px")
    cleaned: bool = Field(False, description="hairs and reflections are painted over first")
    least_light: int = Field(0, ge=0, le=255, description="darker frames are brightened to this level first")
    seed: int

    @property
    def preprocessing(self) -> Preprocessing:
        """What a bundle with these weights does to a photograph."""
        mean, std = _IMAGENET[self.network] if self.normalisation == "imagenet" else ((0.0,) * 3, (1.0,) * 3)
        return Preprocessing(
            input_side=self.input_side,
            cleaned=self.cleaned,
            least_light=self.least_light,
            normalisation=self.normalisation,
            mean=mean,
            std=std,
        )

    def flatten(self) -> dict[str, object]:
        """Return every value by its dotted name, such as `loss.mixup_alpha`."""
        return dict(_flatten(self))


def _flatten(fields: BaseModel, prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in fields:
        if isinstance(value, BaseModel):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


class SvmRecipe(BaseRecipe):
    """A support vector machine on the features of a frozen network (`worker/training/svm.py`)."""

    method: Literal["svm"]
    penalty: float = Field(gt=0, description="for an image on the wrong side (C), times its class's inverse frequency")


class Recipe(BaseRecipe):
    """How a network is trained. Learning rates are AdamW's, per step, at their peak."""

    target: Literal["class", "diagnosis"] = Field(
        "class", description="the three classes, or (to train others from there) every diagnosis of the data"
    )
    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=2)
    backbone_learning_rate: float = Field(gt=0)
    head_learning_rate: float = Field(gt=0)
    warmup_share: float = Field(0, ge=0, lt=1, description="of all steps: the rates rise to their peak, then fall to 0")
    weight_decay: float = Field(0, ge=0)
    ema_decay: float = Field(0, ge=0, lt=1, description="of the averaged weights, per step; 0: the last weights")
    loss: Loss = Loss()
    augmentation: Augmentation = Augmentation()


def read_recipe(name_or_path: str, changes: Sequence[str] = ()) -> Recipe | SvmRecipe:
    """Read a recipe by its name among the shipped ones, or from a TOML file; `method = "svm"` makes it an `SvmRecipe`.

    Where a file says `based_on = "default"`, what it does not name is as in that shipped recipe. Each of `changes`
    overrides a value: `epochs=20`, `loss.mixup_alpha=0.2`.

    Raises:
        InputUnusable: it does not exist, or a field is unknown or out of range.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = RECIPES / f"{name_or_path}.toml"
    try:
        values = _read_values(path)
        for change in changes:
            _merge(values, _read_change(change))
        return (SvmRecipe if "method" in values else Recipe).model_validate(values)
    except FileNotFoundError as error:
        known = ", ".join(sorted(file.stem for file in RECIPES.glob("*.toml")))
        raise InputUnusable("recipe_unknown", f"No recipe {Path(error.filename).stem!r}; shipped: {known}.") from error
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise InputUnusable("recipe_malformed", f"{path.name}: {wrong}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputUnusable("recipe_malformed", f"{path.name}: {error}.") from error


def refuse_baseline(recipe: Recipe | SvmRecipe) -> None:
    """Raise `recipe_unfit` for a baseline, which no worker could run: it can only be measured."""
    if isinstance(recipe, SvmRecipe):
        raise InputUnusable(
            "recipe_unfit",
            "A support vector machine is a baseline and never becomes a bundle: no worker could read photographs with"
            " it. `dermqueue cross-validate` and `dermqueue evaluate --predictions` measure it.",
        )


def _read_change(change: str) -> dict:
    try:
        return tomllib.loads(change)
    except tomllib.TOMLDecodeError as error:
        raise InputUnusable(
            "recipe_malformed",
            f"{change!r} is no KEY=VALUE of a recipe. A text needs quotes: 'network=\"efficientnet-lite0\"'.",
        ) from error


def _read_values(path: Path) -> dict:
    values = tomllib.loads(path.read_text(encoding="utf-8"))
    if base := values.pop("based_on", None):
        own, values = values, _read_values(RECIPES / f"{base}.toml")
        _merge(values, own)
    return values


def _merge(values: dict, changes: dict) -> None:
    for key, change in changes.items():
        if isinstance(change, dict) and isinstance(values.setdefault(key, {}), dict):
            _merge(values[key], change)
        else:
            values[key] = change
