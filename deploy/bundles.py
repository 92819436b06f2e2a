"""What the names of bundles on the command line stand for."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.bundle import S3_SCHEME, SHIPPED_BUNDLES, find_bundle
from shared.settings import load_settings
from worker.bundle_source import local_bundle

MODELS = "models"
"""The folder in the stack's data folder for your own bundles, which can then be named like the shipped ones."""

BUNDLE_NAMES = "a shipped bundle's name, the name of one in DATA_DIR/models, a bundle's folder, or s3://bucket/prefix"
"""What `opened_bundle` takes, for an option's help."""


@contextmanager
def opened_bundle(name: str, data_dir: Path) -> Iterator[Path]:
    """Yield the folder of the bundle with this name; for one in S3, a temporary copy.

    Raises:
        ModelUnusable: what is in S3 is not a bundle.
        Unavailable: `bundle_unreachable`: S3 cannot be reached or refuses.
        ConfigurationInvalid: a bundle in S3 is named, and a setting is missing.
    """
    with local_bundle(resolve_bundle(name, data_dir), load_settings(data_dir) if is_remote(name) else None) as folder:
        yield folder


def resolve_bundle(name: str, data_dir: Path) -> str:
    """Return the value of DERMQUEUE_MODEL that names this bundle from any working directory."""
    if is_remote(name):
        return name
    if (shipped := find_bundle(name)).parent == SHIPPED_BUNDLES:
        return shipped.name
    kept = data_dir / MODELS / name
    is_bare = Path(name).name == name  # and not a path, such as `.` or `runs/one`
    return str((kept if is_bare and kept.is_dir() else Path(name)).resolve())


def is_remote(name: str) -> bool:
    """Tell whether a bundle is in S3."""
    return name.startswith(S3_SCHEME)
