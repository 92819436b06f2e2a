"""The object store, on a real S3 server: what was put is there, what was erased is gone, errors are named."""

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit
from uuid import uuid4

import boto3
import pytest
from botocore.stub import Stubber
from urllib3.exceptions import SSLError
from urllib3.response import HTTPResponse

from deploy.embedded.program import find_free_port
from shared.errors import ConfigurationInvalid, ObjectMissing, ObjectTimedOut, Unavailable
from shared.object_keys import digest_in_key, overlay_key, photograph_key
from shared.settings import Settings
from shared.storage import ENCRYPTION_PROBE, ObjectStore, open_object_store
from tests.faults.network.proxy import Proxy, Swallow
from tests.servers.trickler import running_trickler
from tests.shared.buckets import answers
from tests.waiting import wait_until

CALLS = {
    "put": lambda store: store.put("a/b/c.jpg", b"bytes", "image/jpeg"),
    "get": lambda store: store.get("a/b/c.jpg"),
    "delete": lambda store: store.delete("a/b/c.jpg"),
    "erase_case": lambda store: store.erase_case(uuid4(), uuid4()),
    "check": lambda store: store.check(),
    "ensure_bucket": lambda store: store.ensure_bucket(),
}


@pytest.fixture
def database_url() -> str:
    """No database is involved here, so nothing is tested once per kind."""
    return "sqlite:///not_opened.sqlite3"


def store_with(settings: Settings, max_connections: int = 8, **changes) -> ObjectStore:
    return open_object_store(Settings.model_validate(settings.model_dump() | changes), max_connections)


def is_there(store: ObjectStore, key: str) -> bool:
    try:
        store.get(key)
    except ObjectMissing:
        return False
    return True


def test_an_object_comes_back_as_it_was_put(store):
    data = bytes(range(256)) * 5000
    store.put("case/photograph.jpg", data, "image/jpeg")
    assert store.get("case/photograph.jpg") == data


def test_putting_again_replaces_and_an_empty_object_is_an_object(store):
    store.put("case/again", b"first", "image/png")
    store.put("case/again", b"", "image/png")
    assert store.get("case/again") == b""


def test_an_object_is_sent_at_once_and_signed_with_its_digest_so_that_a_damaged_one_is_refused(settings):
    store, sent = store_with(settings), []
    store._client.meta.events.register("before-send.s3", lambda request, **_: sent.append(request.headers))
    store.put("case/photograph.jpg", b"bytes", "image/jpeg")
    assert sent[0]["X-Amz-Content-SHA256"].decode() == hashlib.sha256(b"bytes").hexdigest()
    assert not {"expect", "x-amz-checksum-crc32"} & {name.lower() for name in sent[0]}


def test_an_object_that_is_not_there_is_missing_and_not_unavailable(store):
    with pytest.raises(ObjectMissing) as caught:
        store.get(f"{uuid4()}/nothing.jpg")
    assert caught.value.code == "object_missing"


def test_a_deleted_object_is_gone_and_deleting_it_again_is_fine(store):
    store.put("case/deleted", b"bytes", "image/png")
    store.put("case/deleted-not", b"bytes", "image/png")
    store.delete("case/deleted")
    store.delete("case/deleted")
    assert not is_there(store, "case/deleted")
    assert is_there(store, "case/deleted-not")


def test_erasing_a_case_takes_all_of_its_objects_and_nothing_of_another_case(store):
    clinic_id, case_id = uuid4(), uuid4()
    digest = hashlib.sha256(b"photograph").hexdigest()
    own = [
        photograph_key(clinic_id, case_id, digest, "image/jpeg"),
        overlay_key(clinic_id, case_id, uuid4()),
        overlay_key(clinic_id, case_id, uuid4()),
    ]
    others = [
        photograph_key(clinic_id, uuid4(), digest, "image/jpeg"),
        photograph_key(uuid4(), case_id, digest, "image/jpeg"),
        f"{clinic_id}/{case_id}x/{digest}.jpg",
    ]
    for key in own + others:
        store.put(key, b"photograph", "image/jpeg")
    store.erase_case(clinic_id, case_id)
    assert [is_there(store, key) for key in own] == [False] * 3
    assert [is_there(store, key) for key in others] == [True] * 3
    store.erase_case(clinic_id, case_id)


def test_the_bucket_that_is_there_passes_the_check(store):
    store.check()


def test_a_bucket_is_created_once_and_found_the_second_time(settings):
    store = store_with(settings, s3_bucket=f"made-{uuid4()}")
    store.ensure_bucket()
    store.put("key", b"bytes", "image/png")
    store.ensure_bucket()
    store.check()
    assert store.get("key") == b"bytes"


@pytest.mark.parametrize("call", [CALLS["check"], CALLS["erase_case"]], ids=["check", "erase_case"])
def test_a_missing_bucket_is_the_stores_error_and_not_a_missing_object(settings, call):
    with pytest.raises(Unavailable) as caught:
        call(store_with(settings, s3_bucket=f"never-made-{uuid4()}"))
    assert caught.value.code == "storage_unavailable"


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_wrong_secret_is_refused_in_every_call(settings, call):
    with pytest.raises(Unavailable) as caught:
        call(store_with(settings, s3_secret_key="wrong-secret"))
    assert caught.value.code == "storage_unavailable"
    assert "wrong-secret" not in str(caught.value)


READS = {
    "get": lambda store: store.get("case/photograph.jpg"),
    "get_up_to": lambda store: store.get_up_to("case/photograph.jpg", 100, within_s=1.0),
}


def break_off(*_) -> bytes:
    raise SSLError("DECRYPTION_FAILED_OR_BAD_RECORD_MAC")


@pytest.mark.parametrize("read", READS.values(), ids=READS)
@pytest.mark.parametrize("end", [break_off, lambda *_: b""], ids=["an error", "too few bytes"])
def test_an_answer_that_breaks_off_is_a_transient_error_of_the_object(store, monkeypatch, end, read):
    store.put("case/photograph.jpg", b"bytes", "image/jpeg")
    monkeypatch.setattr(HTTPResponse, "read1", end)
    with pytest.raises(ObjectTimedOut) as caught:
        read(store)
    assert caught.value.code == "storage_unavailable"


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_an_answer_that_trickles_in_is_given_up_as_a_transient_error_of_the_object(settings, monkeypatch, read):
    monkeypatch.setattr("shared.storage._LONGEST_CALL_S", 1.0)
    with running_trickler(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"x") as url:
        store, begun_s = store_with(settings, s3_endpoint_url=url), time.monotonic()
        with pytest.raises(ObjectTimedOut):
            read(store)
        assert 1 <= time.monotonic() - begun_s < 3
        store._client.close()


@pytest.mark.parametrize(("limit_bytes", "length"), [(0, 1), (999_999, 1_000_000), (1_000_000, 1_000_000)])
def test_of_an_object_over_the_limit_one_byte_more_is_read(store, limit_bytes, length):
    data = bytes(range(250)) * 4000
    store.put("case/photograph.jpg", data, "image/jpeg")
    assert store.get_up_to("case/photograph.jpg", limit_bytes) == data[:length]


def seconds_until_refused(store: ObjectStore) -> float:
    begun_s = time.monotonic()
    assert not answers(store)
    return time.monotonic() - begun_s


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_an_unreachable_server_is_a_transient_error_within_seconds(settings, call):
    store = store_with(settings, s3_endpoint_url=f"http://127.0.0.1:{find_free_port()}")
    begun_s = time.monotonic()
    with pytest.raises(Unavailable) as caught:
        call(store)
    assert caught.value.code == "storage_unavailable"
    assert time.monotonic() - begun_s < 8


def test_a_server_that_never_answers_is_waited_for_once_and_others_are_spared_until_it_does(settings, monkeypatch):
    monkeypatch.setattr("shared.storage._READ_TIMEOUT_S", 0.5)
    monkeypatch.setattr("shared.storage._PAUSE_AFTER_TIMEOUT_S", 0.5)
    with Proxy(urlsplit(settings.s3_endpoint_url).port) as network:
        store = store_with(settings, s3_endpoint_url=network.url)
        store.check()
        with network.behaving(Swallow()):
            assert seconds_until_refused(store) >= 2 * 0.5
            assert seconds_until_refused(store) < 0.1
            wait_until(lambda: seconds_until_refused(store) >= 2 * 0.5)
        wait_until(lambda: answers(store))
        store.check()
        store._client.close()


def test_an_object_that_never_comes_is_inaccessible_while_others_come(settings, monkeypatch):
    monkeypatch.setattr("shared.storage._READ_TIMEOUT_S", 1.5)
    monkeypatch.setattr("shared.storage._PAUSE_AFTER_TIMEOUT_S", 0.2)
    with Proxy(urlsplit(settings.s3_endpoint_url).port) as network:
        store = store_with(settings, s3_endpoint_url=network.url)
        for key in ("case/lost.jpg", "case/whole.jpg"):
            store.put(key, b"bytes", "image/jpeg")
        with network.behaving(Swallow(asked=b"case/lost.jpg")):
            for ask in (store.get, store.delete):
                with pytest.raises(ObjectTimedOut):
                    ask("case/lost.jpg")
                wait_until(lambda: answers(store))
                assert store.get("case/whole.jpg") == b"bytes"
        store._client.close()


def test_a_server_that_never_answers_holds_up_no_more_threads_than_it_may_have(settings, monkeypatch):
    monkeypatch.setattr("shared.storage._READ_TIMEOUT_S", 1)
    monkeypatch.setattr("shared.storage._CONNECTION_WAIT_S", 0.2)
    with Proxy(urlsplit(settings.s3_endpoint_url).port) as network, ThreadPoolExecutor(3) as threads:
        store = store_with(settings, max_connections=2, s3_endpoint_url=network.url)
        store.check()
        with network.behaving(Swallow()):
            quick, *slow = sorted(threads.map(lambda _: seconds_until_refused(store), range(3)))
        assert quick < 1
        assert min(slow) >= 2 * 1
        store._client.close()


@pytest.mark.parametrize("encryption", ["AES256", "none"])
def test_a_store_that_encrypts_as_it_is_asked_passes_and_keeps_no_probe(settings, encryption):
    store = store_with(settings, s3_encryption=encryption)
    store.check_encryption()
    assert not is_there(store, ENCRYPTION_PROBE)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"s3_encryption": "aws:kms"}, "S3_ENCRYPTION=aws:kms (InternalError)"),  # it has no key management
        ({"s3_secret_key": "wrong-secret"}, "(SignatureDoesNotMatch)"),
        ({"s3_bucket": "never-made"}, "(NoSuchBucket)"),
    ],
)
def test_a_store_that_refuses_the_encryption_stops_the_start_with_its_reason(settings, changes, reason):
    with pytest.raises(ConfigurationInvalid) as caught:
        store_with(settings, **changes).check_encryption()
    assert caught.value.code == "s3_encryption_refused"
    assert reason in caught.value.detail


def test_a_store_that_accepts_objects_without_encrypting_them_stops_the_start():
    client = boto3.client("s3", region_name="us-east-1", aws_access_key_id="key", aws_secret_access_key="secret")
    with Stubber(client) as server:
        server.add_response("put_object", {})
        server.add_response("delete_object", {})
        with pytest.raises(ConfigurationInvalid, match="it does not confirm the encryption"):
            ObjectStore(client, "cases", "AES256").check_encryption()


def test_a_store_that_is_unreachable_at_the_start_has_refused_nothing(settings):
    store_with(settings, s3_endpoint_url=f"http://127.0.0.1:{find_free_port()}").check_encryption()


@pytest.mark.parametrize(
    ("media_type", "suffix"), [("image/jpeg", "jpg"), ("image/png", "png"), ("image/webp", "webp")]
)
def test_a_photographs_key_names_clinic_case_and_digest_and_nothing_personal(media_type, suffix):
    clinic_id, case_id, digest = uuid4(), uuid4(), hashlib.sha256(b"photograph").hexdigest()
    key = photograph_key(clinic_id, case_id, digest, media_type)
    assert key == f"{clinic_id}/{case_id}/{digest}.{suffix}"
    assert digest_in_key(key) == digest


def test_every_lease_has_an_overlay_of_its_own_beside_the_photograph():
    clinic_id, case_id, lease_token = uuid4(), uuid4(), uuid4()
    key = overlay_key(clinic_id, case_id, lease_token)
    assert key.startswith(f"{clinic_id}/{case_id}/")
    assert key.endswith(".jpg")
    assert key != overlay_key(clinic_id, case_id, uuid4())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"s3_endpoint_url": "http://my_minio:9000"}, "DERMQUEUE_S3_ENDPOINT_URL: a host's name may hold letters"),
        ({"s3_secret_key": None}, "Set both DERMQUEUE_S3_ACCESS_KEY and DERMQUEUE_S3_SECRET_KEY"),
    ],
)
def test_settings_that_boto3_refuses_stop_the_start_by_their_names(settings, changes, said):
    with pytest.raises(ConfigurationInvalid, match=said):
        store_with(settings, **changes)
