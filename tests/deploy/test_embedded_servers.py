"""The embedded servers themselves: they keep what they took, and they open to nobody without the secret."""

import socket
import stat
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
from shared.errors import ConfigurationInvalid
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
def seaweed(tmp_path_factory: pytest.TempPathFactory, seaweed_port: int) -> Iterator[Stage]:
    data_dir = tmp_path_factory.mktemp("seaweed")
    with Stage(data_dir) as stage:
        stage.start(seaweed_program(data_dir, seaweed_port, "key", SECRET_KEY, "cases"))
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


def status_of(url: str) -> int:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as response:
            return response.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_a_fsynced_key_survives_the_brokers_violent_death(valkey: Stage, valkey_port: int):
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


def test_the_broker_forgets_nothing_when_memory_is_short(valkey: Stage, valkey_port: int):
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


def test_the_store_gives_back_what_it_took(seaweed: Stage, seaweed_port: int):
    client = s3_client(seaweed_port)
    client.put_object(Bucket="cases", Key="a/photograph", Body=b"\xff\xd8 bytes")
    assert client.get_object(Bucket="cases", Key="a/photograph")["Body"].read() == b"\xff\xd8 bytes"
    assert [item["Key"] for item in client.list_objects_v2(Bucket="cases")["Contents"]] == ["a/photograph"]


def test_the_store_refuses_a_wrong_secret(seaweed: Stage, seaweed_port: int):
    with pytest.raises(ClientError) as refusal:
        s3_client(seaweed_port, "a-wrong-secret").put_object(Bucket="cases", Key="forged", Body=b"")
    assert refusal.value.response["Error"]["Code"] == "SignatureDoesNotMatch"
    assert refusal.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_none_of_the_stores_doors_gives_a_photograph_away_unsigned(seaweed: Stage, seaweed_port: int):
    s3_client(seaweed_port).put_object(Bucket="cases", Key="private", Body=b"a lesion")
    filer_port = seaweed_port + SERVERS.index("filer")
    assert status_of(f"http://127.0.0.1:{seaweed_port}/cases/private") == 403
    assert status_of(f"http://127.0.0.1:{filer_port}/buckets/cases/private") == 401


def test_the_store_is_not_ready_without_its_bucket(seaweed: Stage, seaweed_port: int, tmp_path: Path):
    assert not seaweed_program(tmp_path, seaweed_port, "key", SECRET_KEY, "another").is_ready()


def test_an_object_survives_the_stores_violent_death(seaweed: Stage, seaweed_port: int):
    client = s3_client(seaweed_port)
    photograph = bytes(range(256)) * 20_000
    client.put_object(Bucket="cases", Key="survivor", Body=photograph)
    seaweed.kill_and_await_revival("seaweed")
    assert client.get_object(Bucket="cases", Key="survivor")["Body"].read() == photograph


def test_an_object_survives_an_orderly_restart(tmp_path: Path):
    port = find_free_port(PORT_OFFSETS)
    store = seaweed_program(tmp_path, port, "key", SECRET_KEY, "cases")
    with Stage(tmp_path) as stage:
        stage.start(store)
        s3_client(port).put_object(Bucket="cases", Key="kept", Body=b"kept")
    with Stage(tmp_path) as stage:
        stage.start(store)
        assert s3_client(port).get_object(Bucket="cases", Key="kept")["Body"].read() == b"kept"


def test_postgres_answers_and_stops():
    with running_postgres() as url:
        address = url.replace("+psycopg", "")
        with psycopg.connect(address) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(address)


def test_a_port_is_free_only_when_its_companions_are(monkeypatch: pytest.MonkeyPatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1] - 1
        monkeypatch.setattr(program, "CANDIDATE_PORTS", [port])
        with pytest.raises(ConfigurationInvalid, match="no_free_port"):
            find_free_port((0, 1))
    assert find_free_port((0, 1)) == port


def test_a_server_that_is_not_installed_is_named():
    with pytest.raises(ConfigurationInvalid, match="no-such-server is not installed"):
        packaged_binary("no-such-server", "weed")
