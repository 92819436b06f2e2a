"""Finds a worker's bundle: a shipped one, a folder, or S3."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from shared.bundle import (
    CARD_NAME,
    FEATURES_NAME,
    MANIFEST_NAME,
    MAX_WEIGHTS_BYTES,
    S3_SCHEME,
    WEIGHTS_NAME,
    find_bundle,
    read_manifest,
)
from shared.errors import ModelUnusable, ObjectMissing, Unavailable
from shared.settings import Settings
from shared.storage import ObjectStore, open_object_store

_LIMITS_BYTES = {MANIFEST_NAME: 1_000_000, CARD_NAME: 1_000_000, WEIGHTS_NAME: MAX_WEIGHTS_BYTES}
_FEATURES_BYTES = 5_000_000
_WITHIN_S = 300.0
"""For each file: nothing waits for it but this worker's start, and weights have 50 MB."""


@contextmanager
def local_bundle(model: str, settings: Settings | None) -> Iterator[Path]:
    """Yield a bundle's folder; for `s3://bucket/prefix`, a temporary copy.

    S3 is accessed with the settings of the photograph store; only S3 needs `settings`.

    Raises:
        ModelUnusable: `bundle_missing`; `bundle_too_large`.
        Unavailable: `bundle_unreachable`: S3 cannot be reached or refuses.
    """
    if not model.startswith(S3_SCHEME):
        yield find_bundle(model)
        return
    bucket, prefix = place_in_s3(model)
    store = open_object_store(settings.model_copy(update={"s3_bucket": bucket}))
    with TemporaryDirectory(prefix="dermqueue-bundle-") as folder:
        for name, limit_bytes in _LIMITS_BYTES.items():
            (Path(folder) / name).write_bytes(_fetch(store, model, f"{prefix}{name}", limit_bytes))
        if read_manifest(Path(folder)).familiarity:
            features = _fetch(store, model, f"{prefix}{FEATURES_NAME}", _FEATURES_BYTES)
            (Path(folder) / FEATURES_NAME).write_bytes(features)
        yield Path(folder)


def place_in_s3(model: str) -> tuple[str, str]:
    """Return the bucket of `s3://bucket/prefix` and the key prefix of its objects."""
    bucket, _, prefix = model.removeprefix(S3_SCHEME).rstrip("/").partition("/")
    return bucket, f"{prefix}/" if prefix else ""


def _fetch(store: ObjectStore, model: str, key: str, limit_bytes: int) -> bytes:
    name = key.rpartition("/")[2]
    try:
        data = store.get_up_to(key, limit_bytes, _WITHIN_S)
    except ObjectMissing as error:
        raise ModelUnusable("bundle_missing", f"There is no {name} under {model}.") from error
    except Unavailable as error:
        raise Unavailable(
            "bundle_unreachable",
            f"{model} cannot be read with the DERMQUEUE_S3_* settings, which also give access to photographs:"
            f" {error.reason or error.detail}",
        ) from error
    if len(data) > limit_bytes:
        raise ModelUnusable("bundle_too_large", f"{name} under {model} is larger than {limit_bytes / 1e6:.0f} MB.")
    return data
