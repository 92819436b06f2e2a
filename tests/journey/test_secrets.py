"""What must stay private: others cannot read our files, and no log holds a secret or what a clinic sent."""

import json
import socket
import stat
from contextlib import ExitStack
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest
from dotenv import dotenv_values
from sqlalchemy import make_url

from deploy.commands.demo import SAMPLES
from tests import images
from tests.journey.stack import RunningStack
from tests.servers.postgres import running_postgres

PHOTOGRAPH = next(SAMPLES.glob("*.jpg")).read_bytes()
DATABASE_PASSWORD = "the-databases-password"
OF_THE_CLINIC = {
    "reference": "reference-of-mrs-doe",
    "idempotency key": "mrs-does-idempotency-key",
    "file name": "mrs-doe-left-arm.jpg",
    "wrong key": "mistyped-secret-of-a-key",
}


def test_whatever_a_running_stack_keeps_in_its_folder_is_its_owners_alone(stack):
    stack.finish([stack.submit(PHOTOGRAPH).json()["id"]])
    kept = {path.name: stat.S_IMODE(path.stat().st_mode) for path in stack.data_dir.iterdir() if path != stack.output}
    assert {"stack.env", "keys.json", "connection.json", "seaweed.key", "seaweed", "logs"} <= kept.keys()
    if "DERMQUEUE_DATABASE_URL" not in stack.environment:
        assert {"dermqueue.sqlite3", "dermqueue.sqlite3-wal", "dermqueue.sqlite3-shm", "valkey"} <= kept.keys()
    assert {name: oct(mode) for name, mode in kept.items() if mode & 0o077} == {}


@pytest.fixture
def stack_after_a_bad_day(tmp_path) -> RunningStack:
    """A stack, by now stopped, that logged all it could about submissions, refusals, bugs and outages."""
    with ExitStack() as everything:
        database = everything.enter_context(ExitStack())
        address = database.enter_context(running_postgres())
        stack = RunningStack(tmp_path / "data", talkative(address))
        everything.callback(stack.stop)
        stack.finish([submit(stack, "first").json()["id"]])
        be_refused(stack)
        with psycopg.connect(address.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute("ALTER TABLE cases RENAME COLUMN age TO years")
            assert submit(stack, "crashed").status_code == 500
            assert submit(stack).status_code == 500
            connection.execute("ALTER TABLE cases RENAME COLUMN years TO age")
        stack.kill("valkey")
        accepted = submit(stack, "unrung").json()["id"]
        stack.kill("seaweed")
        assert submit(stack, "unstored").status_code == 503
        stack.finish([accepted])
        database.close()
        assert submit(stack, "unwritten").status_code == 503
        assert stack.stop() == 0
    return stack


def talkative(address: str) -> dict[str, str]:
    """Return the variables of a stack that thinks its database needs a password, and whose programs log everything."""
    database = make_url(address).set(password=DATABASE_PASSWORD).render_as_string(hide_password=False)
    return {"DERMQUEUE_DATABASE_URL": database, "DERMQUEUE_LOG_LEVEL": "debug"}


def submit(stack: RunningStack, attempt: str = "", photograph: bytes = PHOTOGRAPH, **fields: str) -> httpx.Response:
    """Send everything that a clinic would not want to see in a log; only without `attempt` has the request no key."""
    return stack.http.post(
        "/v1/cases",
        files={"image": (OF_THE_CLINIC["file name"], photograph)},
        data={"reference": OF_THE_CLINIC["reference"], **fields},
        headers={"Idempotency-Key": OF_THE_CLINIC["idempotency key"] + attempt} if attempt else {},
    )


def be_refused(stack: RunningStack) -> None:
    assert submit(stack, "first", age="61").status_code == 422  # this key was used for another request
    assert submit(stack, sex=OF_THE_CLINIC["reference"]).status_code == 400
    key = stack.connection["clinic_key"]
    prefix = key.split("_")[1]
    for wrong in (key + "x", f"dq_{prefix}_{OF_THE_CLINIC['wrong key']}", OF_THE_CLINIC["wrong key"]):
        assert stack.http.get("/v1/cases", headers={"Authorization": f"Bearer {wrong}"}).status_code == 401
    assert stack.http.get("/v1/cases", params={"reference": OF_THE_CLINIC["reference"], "limit": 0}).status_code == 400
    assert submit(stack, photograph=b"no photograph").status_code == 415
    for line in ("Authorization Bearer {}", "X: y\r\nTransfer-Encoding: {}", "Expect: {}"):  # no HTTP
        send_raw(stack, "GET /v1/cases HTTP/1.1\r\nHost: x\r\n" + line.format(key) + "\r\n\r\n")
    send_raw(stack, f"GET /v1/cases?reference=a {OF_THE_CLINIC['reference']}\r\n\r\n")
    truncated = next(data for data, code in images.refused_when_decoded().values() if code == "image_truncated")
    stack.finish([submit(stack, photograph=truncated).json()["id"]])


def send_raw(stack: RunningStack, request: str) -> None:
    address = urlsplit(stack.connection["base_url"])
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        connection.sendall(request.encode())
        assert connection.recv(5) == b"HTTP/"


def test_no_log_holds_a_secret_or_what_a_clinic_sent(stack_after_a_bad_day):
    stack = stack_after_a_bad_day
    variables = dotenv_values(stack.data_dir / "stack.env")
    keys = json.loads((stack.data_dir / "keys.json").read_text())
    secrets = OF_THE_CLINIC | {
        "the database's password": DATABASE_PASSWORD,
        "the broker's password": urlsplit(variables["DERMQUEUE_BROKER_URL"]).password,
        "the store's secret": variables["DERMQUEUE_S3_SECRET_KEY"],
        "the encryption key": (stack.data_dir / "seaweed.key").read_text().strip(),
        **{name: key.split("_", 2)[2] for name, key in keys.items()},
    }
    files = [stack.output, *(stack.data_dir / "logs").iterdir()]
    logs = {file.name: file.read_text(errors="replace") for file in files}
    assert logs.keys() == {"up.log", "api.log", "worker.log", "beat.log", "valkey.log", "seaweed.log"}
    assert "request_crashed" in logs["api.log"]
    assert logs["api.log"].count("Invalid request from ip=127.0.0.1") == 4
    assert "DEBUG" in logs["worker.log"]
    leaks = [(log, name) for log, text in logs.items() for name, secret in secrets.items() if secret in text]
    assert leaks == []
