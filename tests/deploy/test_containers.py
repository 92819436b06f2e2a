"""The files around the images, checked by the tools that read them."""

import os
import subprocess
import sysconfig
from pathlib import Path

import pytest

CONTAINERS = Path(__file__).parents[2] / "deploy" / "containers"
SCRIPTS = Path(sysconfig.get_path("scripts"))


def run(*command: str, **variables: str) -> subprocess.CompletedProcess:
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | variables, timeout=60)


@pytest.mark.parametrize("file", sorted(CONTAINERS.glob("*.Containerfile")), ids=lambda file: file.name)
def test_hadolint_finds_nothing_in_a_containerfile(file):
    found = run(str(SCRIPTS / "hadolint"), str(file))
    assert (found.returncode, found.stdout) == (0, "")


def test_caddy_accepts_its_configuration(tmp_path):
    caddy = (str(SCRIPTS / "caddy"), "validate", "--adapter", "caddyfile", "--config", str(CONTAINERS / "Caddyfile"))
    found = run(*caddy, SITE_HOST="dermqueue.example", FILES_HOST="files.dermqueue.example", HOME=str(tmp_path))
    assert found.returncode == 0, found.stderr
