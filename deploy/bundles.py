"""Which bundle a name means on the command line."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.bundle import S3_SCHEME, SHIPPED_BUNDLES, find_bundle
from shared.settings import load_settings
from worker.bundle_source import local_bundle

MODELS = "models"
"""The folder in the stack's data folder where bundles of one's own may lie, to be named as the shipped ones are."""

BUNDLE_NAMES = "a shipped bundle's name, the name of one in DATA_DIR/models, a bundle's folder, or s3://bucket/prefix"
"""What `opened_bundle` takes, for an option's help."""


@contextmanager
def opened_bundle(name: str, data_dir: Path) -> Iterator[Path]:
    """Yield the folder of the bundle that a name means; of one in S3, a copy that is gone afterwards.

    Raises:
        ModelUnusable: what lies in S3 is no bundle.
        Unavailable: `bundle_unreachable`: S3 cannot be reached or refuses.
        ConfigurationInvalid: a bundle in S3 is named, and a setting is missing.
    """
    with local_bundle(resolve_bundle(name, data_dir), load_settings(data_dir) if is_remote(name) else None) as folder:
        yield folder


def resolve_bundle(name: str, data_dir: Path) -> str:
    """Return what DERMQUEUE_MODEL must be to mean this bundle from any folder."""
    if is_remote(name):
        return name
    if (shipped := find_bundle(name)).parent == SHIPPED_BUNDLES:
        return shipped.name
    kept = data_dir / MODELS / name
    is_bare = Path(name).name == name  # and so no path, such as `.` or `runs/one`
    return str((kept if is_bare and kept.is_dir() else Path(name)).resolve())


def is_remote(name: str) -> bool:
    """Tell whether a bundle lies in S3."""
    return name.startswith(S3_SCHEME)
