"""The files around the images, checked by the tools that read them."""

import os
import subprocess
import sysconfig
from pathlib import Path

import httpx
import pytest

from deploy.embedded.program import find_free_port
from tests.waiting import wait_until

CONTAINERS = Path(__file__).parents[2] / "deploy" / "containers"
SCRIPTS = Path(sysconfig.get_path("scripts"))
CADDY = str(SCRIPTS / "caddy")
CONFIGURATION = ("--adapter", "caddyfile", "--config", str(CONTAINERS / "Caddyfile"))


def run(*command: str, **variables: str) -> subprocess.CompletedProcess:
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | variables, timeout=60)


@pytest.mark.parametrize("file", sorted(CONTAINERS.glob("*.Containerfile")), ids=lambda file: file.name)
def test_hadolint_finds_nothing_in_a_containerfile(file):
    found = run(str(SCRIPTS / "hadolint"), str(file))
    assert (found.returncode, found.stdout) == (0, "")


def test_caddy_accepts_its_configuration(tmp_path):
    validate = (CADDY, "validate", *CONFIGURATION)
    found = run(*validate, SITE_HOST="dermqueue.example", FILES_HOST="files.dermqueue.example", HOME=str(tmp_path))
    assert found.returncode == 0, found.stderr


def test_caddy_logs_a_failed_request_without_the_reference_that_it_searched_for(tmp_path):
    site, nobody, admin = (f"127.0.0.1:{find_free_port()}" for _ in range(3))
    hosts = {"SITE_HOST": f"http://{site}", "FILES_HOST": f"http://files.{site}", "API_ADDRESS": nobody}
    variables = os.environ | hosts | {"CADDY_ADMIN": admin, "HOME": str(tmp_path)}
    log, address = tmp_path / "log", f"http://{site}/app/cases?reference=Meier"
    with log.open("wb") as file:
        caddy = subprocess.Popen((CADDY, "run", *CONFIGURATION), env=variables, stderr=file)
    try:
        wait_until(lambda: "serving initial configuration" in log.read_text())
        assert httpx.get(address, headers={"Referer": address, "Idempotency-Key": "Meier"}).status_code == 502
    finally:
        caddy.terminate()
        caddy.wait(timeout=30)
    assert f"dial tcp {nobody}" in log.read_text()
    assert "Meier" not in log.read_text()
