"""Erasure in a bucket with versioning, on a real S3 server: no version of what was erased is left."""

from collections.abc import Callable
from uuid import UUID

import pytest

from shared.errors import ObjectMissing, ObjectRefused
from shared.object_keys import upload_key
from shared.settings import Settings
from shared.storage import ObjectStore
from tests.shared.buckets import delete_plainly, keep_versions, kept, open_bucket, put_twice

CLINIC, CASE = UUID(int=1), UUID(int=2)
PHOTOGRAPH, OVERLAY = (f"{CLINIC}/{CASE}/{name}" for name in ("photograph.jpg", "overlay.jpg"))
UPLOAD = upload_key(CLINIC, CASE)
OTHERS = {f"{CLINIC}/{CASE}x/photograph.jpg", f"{CASE}/{CLINIC}/photograph.jpg", f"{UPLOAD}x"}

ERASURES = {
    "a case": lambda store: store.erase_case(CLINIC, CASE),
    "one object after the other": lambda store: [store.delete(key) for key in (PHOTOGRAPH, OVERLAY)],
}


@pytest.fixture
def database_url() -> str:
    """No database is involved here, so nothing is tested once per kind."""
    return "sqlite:///not_opened.sqlite3"


@pytest.fixture
def store(settings: Settings) -> ObjectStore:
    return open_bucket(settings)


@pytest.mark.parametrize("later", ["Enabled", "Suspended"])
@pytest.mark.parametrize("erase", ERASURES.values(), ids=ERASURES)
def test_no_version_is_left_and_every_version_of_all_else_is(store, erase, later):
    put_twice(store, PHOTOGRAPH)  # before versions were kept
    keep_versions(store)
    put_twice(store, PHOTOGRAPH, OVERLAY, *OTHERS)
    keep_versions(store, later)
    for _ in range(2):
        erase(store)
        assert kept(store) == sorted([*OTHERS] * 2)


@pytest.mark.parametrize("erase", ERASURES.values(), ids=ERASURES)
def test_what_an_earlier_deletion_only_hid_is_erased(store, erase):
    keep_versions(store)
    put_twice(store, PHOTOGRAPH, OVERLAY)
    delete_plainly(store, PHOTOGRAPH, OVERLAY)
    erase(store)
    assert kept(store) == kept(store, "DeleteMarkers") == []


def test_of_keys_that_begin_alike_only_the_one_that_was_named_is_erased(store):
    keep_versions(store)
    put_twice(store, UPLOAD, f"{UPLOAD}x")
    store.delete(UPLOAD)
    assert kept(store) == [f"{UPLOAD}x"] * 2


def test_what_a_deletion_only_hid_is_walked_over_and_without_versions_nothing_is_twice(store):
    put_twice(store, PHOTOGRAPH)
    assert walked(store) == [PHOTOGRAPH]
    keep_versions(store)
    put_twice(store, OVERLAY)
    delete_plainly(store, OVERLAY)
    assert sorted(walked(store)) == sorted([PHOTOGRAPH, *[OVERLAY] * 3])


def walked(store: ObjectStore) -> list[str]:
    return [item.key for page in store.walk() for item in page]


@pytest.mark.parametrize("erase", ERASURES.values(), ids=ERASURES)
def test_a_store_that_holds_a_version_back_refuses_the_erasure_until_it_no_longer_does(settings, erase):
    store = open_bucket(settings, ObjectLockEnabledForBucket=True)
    held = {"Bucket": store._bucket, "Key": PHOTOGRAPH}
    held["VersionId"] = store._client.put_object(**held, Body=b"photograph")["VersionId"]
    store._client.put_object_legal_hold(**held, LegalHold={"Status": "ON"})
    delete_plainly(store, PHOTOGRAPH)
    for _ in range(2):
        with pytest.raises(ObjectRefused):
            erase(store)
        assert kept(store) == [PHOTOGRAPH]
        with pytest.raises(ObjectMissing):  # what a plain deletion has hidden stays hidden
            store.get(PHOTOGRAPH)
    store._client.put_object_legal_hold(**held, LegalHold={"Status": "OFF"})
    erase(store)
    assert kept(store) == []


@pytest.mark.parametrize(
    ("erase", "requests"),
    [
        (lambda store: store.delete(UPLOAD), ["DeleteObject"]),
        (lambda store: store.erase_case(CLINIC, CASE), ["DeleteObject", "ListObjectsV2", "DeleteObject"]),
    ],
    ids=["an object", "a case"],
)
def test_a_bucket_without_versions_is_asked_for_none(store, erase: Callable, requests):
    put_twice(store, PHOTOGRAPH, UPLOAD)
    made = []
    store._client.meta.events.register("before-call.s3", lambda model, **_: made.append(model.name))
    erase(store)
    assert made == requests
