"""Where an extra is not installed, as on the API's machine without torch, the commands that need it say so."""

import json
import subprocess
import sys

import pytest

PROGRAM = """
import json, sys, traceback
sys.modules |= dict.fromkeys(sys.argv[1:])
from click.testing import CliRunner
from deploy.cli import main

outcomes = {}
for command in json.load(sys.stdin):
    done = CliRunner().invoke(main, command)
    crash = "" if isinstance(done.exception, SystemExit) else "".join(traceback.format_exception(done.exception))
    outcomes[command[0]] = done.exit_code, done.output + crash
print(json.dumps(outcomes))
"""
EMPTY = "/dev/null"
IMAGES = ("--data", ".", EMPTY)
NEED = (
    ("worker",),
    ("evaluate", "--bundle", "open", *IMAGES),
    ("export", "--bundle", "open", "--out", "a.onnx"),
    *((name, *IMAGES, "--weights", EMPTY, "--out", EMPTY + "/run") for name in ("train", "cross-validate")),
)


def try_without(*packages: str) -> dict[str, tuple[int, str]]:
    """Return each command's exit code and output, in a process that does not find the packages."""
    command = [sys.executable, "-c", PROGRAM, *packages]
    done = subprocess.run(command, input=json.dumps(NEED), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def said(command: str, missing: str, extra: str) -> str:
    return f"Error: `dermqueue {command}` needs {missing}, which is not installed: pip install 'dermqueue[{extra}]'\n"


@pytest.fixture(scope="module")
def outcomes() -> dict[str, tuple[int, str]]:
    return try_without("torch", "scipy")


@pytest.mark.parametrize(
    ("command", "missing", "extra"),
    [
        ("worker", "torch", "worker"),
        ("evaluate", "scipy", "train"),
        ("export", "torch", "worker"),
        ("train", "scipy", "train"),
        ("cross-validate", "torch", "train"),
    ],
)
def test_a_command_whose_extra_is_not_installed_says_how_to_install_it(outcomes, command, missing, extra):
    assert outcomes[command] == [1, said(command, missing, extra)]


def test_a_command_that_finds_torch_but_no_onnx_says_how_to_install_it():
    outcomes = try_without("onnx", "onnxruntime")
    assert outcomes["export"] == [1, said("export", "onnx", "worker")]
    assert outcomes["worker"] == [1, said("worker", "onnxruntime", "worker")]
