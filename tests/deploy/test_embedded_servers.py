"""The embedded servers themselves: they keep what they accepted, and serve nobody without the secret."""

import random
import socket
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import boto3
import psycopg
import pytest
from botocore.client import BaseClient
from botocore.config import Config
from botocore.exceptions import ClientError
from redis import Redis
from redis.exceptions import AuthenticationError

from deploy.embedded import program
from deploy.embedded.program import find_free_port, packaged_binary
from deploy.embedded.seaweed import PORT_OFFSETS, SERVERS, seaweed_program, seaweed_url
from deploy.embedded.valkey import valkey_program, valkey_url
from shared.errors import ConfigurationInvalid, Unavailable
from shared.settings import Settings
from shared.storage import ObjectStore, open_object_store
from tests.deploy.stage import Stage
from tests.servers.postgres import running_postgres

pytestmark = pytest.mark.timeout(120)

PASSWORD = "the-brokers_password"
SECRET_KEY = "the-secret-key-of-the-store"


@pytest.fixture(scope="module")
def valkey_port() -> int:
    return find_free_port()


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory, valkey_port: int) -> Iterator[Stage]:
    data_dir = tmp_path_factory.mktemp("valkey")
    with Stage(data_dir) as stage:
        stage.start(valkey_program(data_dir, valkey_port, PASSWORD))
        yield stage


@pytest.fixture(scope="module")
def seaweed_port() -> int:
    return find_free_port(PORT_OFFSETS)


@pytest.fixture(scope="module")
def seaweed_data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("seaweed")


@pytest.fixture(scope="module")
def seaweed(seaweed_data_dir: Path, seaweed_port: int) -> Iterator[Stage]:
    with Stage(seaweed_data_dir) as stage:
        stage.start(seaweed_program(seaweed_data_dir, seaweed_port, "key", SECRET_KEY, "cases"))
        yield stage


def s3_client(port: int, secret_key: str = SECRET_KEY) -> BaseClient:
    return boto3.client(
        "s3",
        endpoint_url=seaweed_url(port),
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key=secret_key,
        config=Config(s3={"addressing_style": "path"}, proxies={}, retries={"total_max_attempts": 1}),
    )


def object_store(port: int, encryption: str) -> ObjectStore:
    return open_object_store(
        Settings(
            _env_file=None,
            database_url="sqlite:///not_opened.sqlite3",
            broker_url="redis://not-called",
            s3_bucket="cases",
            s3_endpoint_url=seaweed_url(port),
            s3_access_key="key",
            s3_secret_key=SECRET_KEY,
            s3_encryption=encryption,
        )
    )


def files_that_hold(folder: Path, pattern: bytes) -> list[str]:
    """Return the files that contain these bytes."""
    return [file.name for file in folder.rglob("*") if file.is_file() and pattern in file.read_bytes()]


def status_of(url: str) -> int:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as response:
            return response.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_a_fsynced_key_survives_a_kill_of_the_broker(valkey: Stage, valkey_port: int):
    with Redis.from_url(valkey_url(valkey_port, PASSWORD)) as client:
        client.set("doorbell", "case-1")
        assert client.execute_command("WAITAOF", 1, 0, 5000)[0] == 1
        valkey.kill_and_await_revival("valkey")
        assert client.get("doorbell") == b"case-1"


def test_the_broker_refuses_a_wrong_password_and_none(valkey: Stage, valkey_port: int):
    with Redis.from_url(valkey_url(valkey_port, "wrong"), retry=None) as client, pytest.raises(AuthenticationError):
        client.ping()
    with Redis(port=valkey_port, retry=None) as client, pytest.raises(AuthenticationError):
        client.ping()


def test_the_broker_drops_nothing_when_memory_is_short(valkey: Stage, valkey_port: int):
    with Redis.from_url(valkey_url(valkey_port, PASSWORD)) as client:
        assert client.config_get("maxmemory-policy", "appendonly", "bind") == {
            "maxmemory-policy": "noeviction",
            "appendonly": "yes",
            "bind": "127.0.0.1",
        }


def test_the_brokers_password_is_in_a_file_that_only_we_can_read(tmp_path: Path):
    configuration = tmp_path / "valkey" / "valkey.conf"
    valkey_program(tmp_path, 15_000, "an-old-one")
    configuration.chmod(0o644)
    broker = valkey_program(tmp_path, 15_000, PASSWORD)

    assert PASSWORD in configuration.read_text()
    assert stat.S_IMODE(configuration.stat().st_mode) == 0o600
    assert PASSWORD not in repr(broker)


def test_the_store_returns_what_it_was_sent(seaweed: Stage, seaweed_port: int):
    client = s3_client(seaweed_port)
    client.put_object(Bucket="cases", Key="a/photograph", Body=b"\xff\xd8 bytes")
    assert client.get_object(Bucket="cases", Key="a/photograph")["Body"].read() == b"\xff\xd8 bytes"
    assert [item["Key"] for item in client.list_objects_v2(Bucket="cases")["Contents"]] == ["a/photograph"]


def test_the_store_refuses_a_wrong_secret(seaweed: Stage, seaweed_port: int):
    with pytest.raises(ClientError) as refusal:
        s3_client(seaweed_port, "a-wrong-secret").put_object(Bucket="cases", Key="forged", Body=b"")
    assert refusal.value.response["Error"]["Code"] == "SignatureDoesNotMatch"
    assert refusal.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_none_of_the_stores_ports_serves_a_photograph_unsigned(seaweed: Stage, seaweed_port: int):
    s3_client(seaweed_port).put_object(Bucket="cases", Key="private", Body=b"a lesion")
    filer_port = seaweed_port + SERVERS.index("filer")
    assert status_of(f"http://127.0.0.1:{seaweed_port}/cases/private") == 403
    assert status_of(f"http://127.0.0.1:{filer_port}/buckets/cases/private") == 401


def test_the_store_is_not_ready_without_its_bucket(seaweed: Stage, seaweed_port: int, tmp_path: Path):
    assert not seaweed_program(tmp_path, seaweed_port, "key", SECRET_KEY, "another").is_ready()


def test_an_encrypted_object_survives_a_kill_of_the_store(seaweed: Stage, seaweed_port: int):
    client = s3_client(seaweed_port)
    photograph = random.Random(3).randbytes(9_000_000)  # more than two of the store's chunks
    client.put_object(Bucket="cases", Key="survivor", Body=photograph, ServerSideEncryption="AES256")
    seaweed.kill_and_await_revival("seaweed")
    assert client.get_object(Bucket="cases", Key="survivor")["Body"].read() == photograph
    middle = client.get_object(Bucket="cases", Key="survivor", Range="bytes=8388600-8388700")
    assert middle["Body"].read() == photograph[8388600:8388701]


def test_an_encrypted_object_survives_an_orderly_restart_and_is_nothing_without_its_key(tmp_path: Path):
    port = find_free_port(PORT_OFFSETS)
    store = seaweed_program(tmp_path, port, "key", SECRET_KEY, "cases")
    with Stage(tmp_path) as stage:
        stage.start(store)
        object_store(port, "AES256").put("kept", b"kept", "image/jpeg")
    with Stage(tmp_path) as stage:
        stage.start(store)
        assert object_store(port, "AES256").get("kept") == b"kept"
    (tmp_path / "seaweed.key").write_text("0" * 64)
    (tmp_path / "seaweed.key.sha256").unlink()
    with Stage(tmp_path) as stage:
        stage.start(seaweed_program(tmp_path, port, "key", SECRET_KEY, "cases"))
        with pytest.raises(Unavailable):
            object_store(port, "AES256").get("kept")


def test_neither_what_is_stored_encrypted_nor_the_key_is_found_in_the_stores_folder(
    seaweed: Stage, seaweed_port: int, seaweed_data_dir: Path
):
    plain, photograph, tiny = (random.Random(seed).randbytes(size) for seed, size in enumerate((4096, 3_000_000, 64)))
    object_store(seaweed_port, "none").put("plain", plain, "image/jpeg")
    encrypted = object_store(seaweed_port, "AES256")
    encrypted.put("photograph", photograph, "image/jpeg")
    encrypted.put("tiny", tiny, "image/jpeg")

    folder = seaweed_data_dir / "seaweed"
    assert files_that_hold(folder, plain) == ["cases_1.dat"]
    assert [files_that_hold(folder, pattern) for pattern in (photograph[:32], photograph[-32:], tiny[:32])] == [[]] * 3
    key = (seaweed_data_dir / "seaweed.key").read_text().strip()
    assert files_that_hold(folder, key.encode()) + files_that_hold(folder, bytes.fromhex(key)) == []
    assert encrypted.get("photograph") == photograph


def test_the_encryption_key_is_made_once_and_only_we_can_read_it(tmp_path: Path):
    port, file = find_free_port(PORT_OFFSETS), tmp_path / "seaweed.key"
    first = seaweed_program(tmp_path, port, "key", SECRET_KEY, "cases")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    again = seaweed_program(tmp_path, port, "key", SECRET_KEY, "cases")
    assert again.env["WEED_S3_SSE_KEK"] == first.env["WEED_S3_SSE_KEK"] == file.read_text().strip()
    assert file.read_text().strip() not in f"{first!r} {first.argv}"


def test_a_store_whose_key_is_missing_is_not_started_with_another_one(tmp_path: Path):
    port, file, elsewhere = find_free_port(PORT_OFFSETS), tmp_path / "seaweed.key", tmp_path / "medium"
    file.symlink_to(elsewhere)
    with pytest.raises(ConfigurationInvalid, match="encryption_key_missing"):
        seaweed_program(tmp_path, port, "key", SECRET_KEY, "cases")
    elsewhere.write_text("0" * 64)
    assert seaweed_program(tmp_path, port, "key", SECRET_KEY, "cases").env["WEED_S3_SSE_KEK"] == "0" * 64
    elsewhere.write_text("1" * 64)
    with pytest.raises(ConfigurationInvalid, match="encryption_key_wrong"):
        seaweed_program(tmp_path, port, "key", SECRET_KEY, "cases")
    file.unlink()
    with pytest.raises(ConfigurationInvalid, match="encryption_key_missing"):
        seaweed_program(tmp_path, port, "key", SECRET_KEY, "cases")


def test_postgres_answers_and_stops():
    with running_postgres() as url:
        address = url.replace("+psycopg", "")
        with psycopg.connect(address) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(address)


def test_a_port_is_free_only_when_its_companions_are(monkeypatch: pytest.MonkeyPatch):
    port = find_free_port() + 1
    monkeypatch.setattr(program, "CANDIDATE_PORTS", [port])
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port + 1))
        with pytest.raises(ConfigurationInvalid, match="no_free_port"):
            find_free_port((0, 1))
    assert find_free_port((0, 1)) == port


def test_the_ports_of_two_servers_that_were_found_never_overlap():
    assert program.CANDIDATE_PORTS.step >= len(SERVERS)


def test_a_port_that_was_found_is_given_to_no_other_process_though_nothing_listens(monkeypatch: pytest.MonkeyPatch):
    port = find_free_port()
    monkeypatch.setattr(program, "CANDIDATE_PORTS", [port])
    with pytest.raises(ConfigurationInvalid, match="no_free_port"):
        find_free_port()
    finding = f"from deploy.embedded import program; program.CANDIDATE_PORTS = [{port}]; program.find_free_port()"
    elsewhere = subprocess.run([sys.executable, "-c", finding], capture_output=True, text=True, timeout=60)
    assert "no_free_port" in elsewhere.stderr


def test_a_server_that_is_not_installed_is_named():
    with pytest.raises(ConfigurationInvalid, match="no-such-server is not installed"):
        packaged_binary("no-such-server", "weed")
