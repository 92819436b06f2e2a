"""The units of a clinic with one machine call commands that exist, and give what they stop the time that it takes."""

import re
import shlex
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest
from click import Group

from deploy.cli import main
from deploy.stack import CONNECTION, own_programs, prepare_servers

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"
SERVICES = sorted(UNITS.glob("*.service"))
PROGRAM = "/opt/dermqueue/bin/dermqueue"
DATA_DIR = "/var/lib/dermqueue"


def read_unit(name: str) -> ConfigParser:
    unit = ConfigParser(interpolation=None, strict=False)  # a setting may stand there twice
    unit.optionxform = str
    unit.read(UNITS / name)
    return unit


def run_before_start(name: str, command: str, data_dir: Path, limit_s: float = 30) -> int:
    """Run the step before a unit's start that begins with this command, in this data folder; return the exit code."""
    steps = re.findall(r"^ExecStartPre=-?(.+)$", (UNITS / name).read_text(), re.MULTILINE)
    (step,) = (step for step in steps if step.startswith(command))
    step = step.replace(DATA_DIR, str(data_dir)).replace("timeout 120", f"timeout {limit_s}")
    return subprocess.run(shlex.split(step), cwd=data_dir, timeout=60).returncode


@pytest.mark.parametrize("file", SERVICES, ids=lambda file: file.name)
def test_a_service_calls_a_command_that_exists_with_its_options(file):
    service = read_unit(file.name)["Service"]
    program, name, *arguments = shlex.split(service["ExecStart"])
    assert program == PROGRAM
    command = main.commands[name]
    assert not isinstance(command, Group)
    assert command.make_context(name, arguments).params["data_dir"] == Path(DATA_DIR)


@pytest.mark.parametrize("file", SERVICES, ids=lambda file: file.name)
def test_a_service_runs_as_its_own_user_and_writes_into_its_own_folders(file):
    service = read_unit(file.name)["Service"]
    assert service["User"] == service["Group"] == service["StateDirectory"] == Path(DATA_DIR).name
    assert (service["NoNewPrivileges"], service["ProtectSystem"], service["UMask"]) == ("yes", "strict", "0077")


def test_the_worker_sees_the_gpu():
    # Before systemd 252, ProtectClock implies a DeviceAllow, which hides /dev/nvidia*.
    service = read_unit("dermqueue.service")["Service"]
    assert service.keys().isdisjoint({"PrivateDevices", "DeviceAllow", "ProtectClock"})


def test_stopping_the_stack_may_take_as_long_as_all_its_programs_together(tmp_path):
    _, servers = prepare_servers(tmp_path)
    service = read_unit("dermqueue.service")["Service"]
    needed_s = sum(program.stop_timeout_s for program in (*servers, *own_programs(tmp_path, 8000)))
    assert int(service["TimeoutStopSec"]) >= needed_s
    assert (
        service["KillMode"] == "mixed"
    )  # else each program would be told at once, and the servers gone before a worker


def test_the_backups_timer_has_its_service():
    assert read_unit("dermqueue-backup.timer")["Timer"]["OnCalendar"]
    assert (UNITS / "dermqueue-backup.service").exists()


def test_a_backup_waits_until_the_stack_is_ready_but_not_for_ever(tmp_path):
    unit, timed_out = "dermqueue-backup.service", 124
    assert run_before_start(unit, "/usr/bin/timeout", tmp_path, limit_s=0.1) == timed_out
    assert "\nExecStartPre=-/usr/bin/timeout" in (UNITS / unit).read_text()  # so it is made all the same
    (tmp_path / CONNECTION).touch()
    assert run_before_start(unit, "/usr/bin/timeout", tmp_path) == 0


def test_what_a_power_failure_left_does_not_make_a_stack_that_starts_look_ready(tmp_path):
    (tmp_path / CONNECTION).touch()
    assert run_before_start("dermqueue.service", "/bin/rm", tmp_path) == 0
    assert not (tmp_path / CONNECTION).exists()
    assert read_unit("dermqueue-backup.service")["Unit"]["After"] == "dermqueue.service"
