"""Buckets as tests need them: with versioning or short listings, and what is in them."""

from uuid import uuid4

from shared.errors import Unavailable
from shared.settings import Settings
from shared.storage import ObjectStore, open_object_store


def open_bucket(settings: Settings, **options) -> ObjectStore:
    """Create a bucket of the test's own, whose listings have two entries a page."""
    store = open_object_store(settings.model_copy(update={"s3_bucket": f"versions-{uuid4()}"}))
    store._client.create_bucket(Bucket=store._bucket, **options)
    for listing in ("ListObjectsV2", "ListObjectVersions"):
        store._client.meta.events.register(f"provide-client-params.s3.{listing}", in_short_pages)
    return store


def in_short_pages(params: dict, **_) -> dict:
    return params | {"MaxKeys": 2}


def keep_versions(store: ObjectStore, status: str = "Enabled") -> None:
    store._client.put_bucket_versioning(Bucket=store._bucket, VersioningConfiguration={"Status": status})


def put_twice(store: ObjectStore, *keys: str) -> None:
    for key in keys * 2:
        store.put(key, b"photograph", "image/jpeg")


def delete_plainly(store: ObjectStore, *keys: str) -> None:
    """Delete as an erasure did that was interrupted, or that knew nothing of versions."""
    for key in keys:
        store._client.delete_object(Bucket=store._bucket, Key=key)


def kept(store: ObjectStore, kind: str = "Versions") -> list[str]:
    """Return the key of every version that the bucket keeps, or of every delete marker."""
    pages = store._client.get_paginator("list_object_versions").paginate(Bucket=store._bucket)
    return sorted(entry["Key"] for page in pages for entry in page.get(kind, []))


def answers(store: ObjectStore) -> bool:
    """Tell whether the store can be reached."""
    try:
        store.check()
    except Unavailable:
        return False
    return True
