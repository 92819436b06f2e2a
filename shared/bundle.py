"""A bundle: weights, labels, preprocessing, thresholds and checksums, verified as one.

A folder with `weights.safetensors`, `bundle.json` (the manifest below), `card.md`, and `features.safetensors` where the
manifest names it. The API reads manifests alone; only a worker loads weights.
"""

import hashlib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, ValidationError

from shared.domain import CLASSES, OperatingPoint
from shared.errors import ModelUnusable

MANIFEST_NAME = "bundle.json"
WEIGHTS_NAME = "weights.safetensors"
FEATURES_NAME = "features.safetensors"
CARD_NAME = "card.md"
EXPERIMENTS_NAME = "experiments.md"
S3_SCHEME = "s3://"
SHIPPED_BUNDLES = Path(__file__).parent / "bundles"

Architecture = Literal["resnet50-v1", "efficientnet-lite0"]
"""The supported networks: the server's, and one light enough for a phone."""

MAX_WEIGHTS_BYTES = 50_000_000
"""A bundle is copied to wherever a worker starts: a half-precision ResNet-50 fits."""


class Preprocessing(BaseModel):
    """How a photograph becomes the network's input.

    Per RGB channel, values in [0, 1] minus `mean`, divided by `std`. `image-mean`: each image's own mean replaces
    `mean` (Rokad and Nagarajan 2019, arXiv 1905.08610). `cleaned`: hairs and reflections are painted over first
    (`worker/cleaning.py`). `least_light`: a frame with less light, by `worker.frame.light`, is brightened to it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    input_side: int = Field(description="side of the square input, in px")
    resize: Literal["squash-256-jpeg-bilinear"] = "squash-256-jpeg-bilinear"
    cleaned: bool = False
    least_light: int = Field(0, ge=0, le=255)
    normalisation: Literal["imagenet", "image-mean"] = "imagenet"
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def retouches(self) -> bool:
        """Whether the photograph is altered before the network reads it."""
        return self.cleaned or bool(self.least_light)

    def describe(self) -> str:
        """Return the name under which a result records its preprocessing."""
        retouched = "-cleaned" * self.cleaned + f"-light-{self.least_light}" * bool(self.least_light)
        return f"{self.resize}-{self.input_side}-{self.normalisation}{retouched}"


class Figure(BaseModel):
    """A measured figure with its 95% interval and the number of images it was measured on."""

    model_config = ConfigDict(frozen=True)

    value: float
    low: float
    high: float
    n: int


class FamiliarityCheck(BaseModel):
    """The distance beyond which a photograph is unlike the training images, by the statistics of their features.

    `flagged`: for each kind of image, the share that lay beyond it.
    """

    model_config = ConfigDict(frozen=True)

    sha256: str = Field(description="of features.safetensors")
    threshold: PositiveFloat
    learnt_on: str
    flagged: dict[str, Figure] = {}


class Manifest(BaseModel):
    """`bundle.json`: everything needed to use the weights as they were trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    version: str
    architecture: Architecture
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    temperature: float = Field(gt=0, description="logits are divided by this before softmax (Guo et al. 2017)")
    operating_points: tuple[OperatingPoint, ...]
    default_operating_point: str
    plausible_from: tuple[float, ...] | None = Field(
        None,
        min_length=len(CLASSES),
        max_length=len(CLASSES),
        description="per label: the probability from which it is a plausible diagnosis of a result; null in bundles"
        " made before this was measured",
    )
    heatmap_scales: tuple[PositiveFloat, ...] = Field(
        min_length=len(CLASSES),
        max_length=len(CLASSES),
        description="per label: the raw Grad-CAM value drawn at full strength",
    )
    weights_sha256: str
    data_sha256: str = Field(description="digest of the training images' names, labels and files, in their order")
    trained_on: str
    licence: str
    sources: tuple[str, ...] = Field((), description="each data set and the starting weights, with their licences")
    figures: dict[str, Figure]
    measured_on: str = Field("", description="what the figures were measured on, and how")
    limits: tuple[str, ...]
    familiarity: FamiliarityCheck | None = Field(None, description="null in bundles made before this check existed")

    def operating_point(self, name: str | None = None) -> OperatingPoint:
        """Return the named operating point, or the default one.

        Raises:
            ModelUnusable: the bundle has no point of that name.
        """
        wanted = name or self.default_operating_point
        for point in self.operating_points:
            if point.name == wanted:
                return point
        known = ", ".join(point.name for point in self.operating_points)
        raise ModelUnusable(
            "operating_point_unknown", f"The bundle has no operating point {wanted!r}; it has: {known}."
        )


def find_bundle(name_or_folder: str) -> Path:
    """Return the folder of a shipped bundle, or the given folder."""
    shipped = SHIPPED_BUNDLES / name_or_folder
    return shipped if shipped.is_dir() else Path(name_or_folder)


def read_manifest(folder: Path) -> Manifest:
    """Read and validate a bundle's manifest without touching its weights.

    Raises:
        ModelUnusable: there is no manifest, or it cannot be used by this version of the code.
    """
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST_NAME).read_bytes())
    except OSError as error:
        shipped = ", ".join(sorted(file.parent.name for file in SHIPPED_BUNDLES.glob(f"*/{MANIFEST_NAME}")))
        raise ModelUnusable(
            "bundle_missing",
            f"There is no readable {MANIFEST_NAME} in {folder}. A bundle, in DERMQUEUE_MODEL too, is one of {shipped},"
            f" a bundle's folder or {S3_SCHEME}bucket/prefix.",
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or MANIFEST_NAME
        raise ModelUnusable("bundle_damaged", f"{folder / MANIFEST_NAME}: {where}: {first['msg']}.") from error
    if manifest.labels != CLASSES:
        raise ModelUnusable("bundle_labels", f"The bundle's labels are {manifest.labels}; this code knows {CLASSES}.")
    manifest.operating_point()
    return manifest


def read_card(folder: Path) -> str:
    """Return a bundle's card, Markdown.

    Raises:
        ModelUnusable: it is missing or is not text.
    """
    try:
        return (folder / CARD_NAME).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelUnusable("bundle_damaged", f"There is no readable {CARD_NAME} in {folder}.") from error


def verify_weights(folder: Path, manifest: Manifest) -> None:
    """Compare the weights with the digest in the manifest.

    Raises:
        ModelUnusable: the file is missing or its digest differs.
    """
    try:
        with (folder / WEIGHTS_NAME).open("rb") as weights:
            found = hashlib.file_digest(weights, "sha256").hexdigest()
    except OSError as error:
        raise ModelUnusable("bundle_damaged", f"{folder / WEIGHTS_NAME} cannot be read.") from error
    if found != manifest.weights_sha256:
        raise ModelUnusable(
            "bundle_damaged",
            f"{folder / WEIGHTS_NAME} does not match {MANIFEST_NAME} (sha256 {found[:12]}…, expected"
            f" {manifest.weights_sha256[:12]}…). Copy the bundle again or choose another with DERMQUEUE_MODEL.",
        )
