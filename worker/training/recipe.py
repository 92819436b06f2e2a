"""Recipes: small files that say how a network is trained."""

import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.errors import ConfigurationInvalid

RECIPES = Path(__file__).parent / "recipes"


class Augmentation(BaseModel):
    """Random changes to each training image. Flips are always on; a lesion has no up and no left."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rotation_deg: float = Field(ge=0, le=180)
    scale: float = Field(ge=0, lt=1)
    shift: float = Field(ge=0, lt=0.5, description="fraction of the side")
    brightness: float = Field(ge=0, lt=1)
    contrast: float = Field(ge=0, lt=1)
    saturation: float = Field(ge=0, lt=1)


class Recipe(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    network: Literal["resnet50-v1"]
    input_side: int = Field(ge=32, multiple_of=32)
    source_side: int = Field(ge=32, description="images are kept in memory at this side and augmented from there")
    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=2)
    peak_learning_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    label_smoothing: float = Field(ge=0, lt=1)
    ema_decay: float = Field(ge=0, lt=1)
    seed: int
    augmentation: Augmentation


def read_recipe(name_or_path: str) -> Recipe:
    """Read a recipe by its name among the shipped ones, or from a TOML file.

    Raises:
        ConfigurationInvalid: there is none, or a field is unknown or out of range.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = RECIPES / f"{name_or_path}.toml"
    try:
        return Recipe.model_validate(tomllib.loads(path.read_text()))
    except FileNotFoundError as error:
        known = ", ".join(sorted(file.stem for file in RECIPES.glob("*.toml")))
        raise ConfigurationInvalid("recipe_unknown", f"No recipe {name_or_path!r}; shipped: {known}.") from error
    except (ValidationError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationInvalid("recipe_malformed", f"{path.name}: {error}") from error
