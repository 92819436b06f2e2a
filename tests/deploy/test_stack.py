"""What the local stack makes of its folder and of the variables."""

import errno
import io
import os
import socket
import sys
from pathlib import Path

import pytest

from deploy.commands.serve import print_event
from deploy.stack import keeps_data_elsewhere, local_stack, prepare_servers
from shared.errors import ConfigurationInvalid


def names(programs) -> list[str]:
    return [program.name for program in programs]


def test_what_no_variable_names_is_embedded_and_keeps_its_ports_and_passwords(tmp_path):
    first, programs = prepare_servers(tmp_path)
    assert names(programs) == ["valkey", "seaweed"]
    assert prepare_servers(tmp_path)[0] == first
    assert first.s3_folder == tmp_path / "seaweed"


def test_a_setting_of_the_store_that_names_no_server_leaves_it_embedded(tmp_path, monkeypatch):
    monkeypatch.setenv("DERMQUEUE_S3_ENCRYPTION", "none")
    settings, programs = prepare_servers(tmp_path)
    assert names(programs) == ["valkey", "seaweed"]
    assert settings.s3_encryption == "none"
    assert not keeps_data_elsewhere()


@pytest.mark.parametrize("variable", ["DERMQUEUE_S3_BUCKET", "DERMQUEUE_DATABASE_URL"])
def test_a_server_that_is_given_is_not_embedded(tmp_path, monkeypatch, variable):
    monkeypatch.setenv(variable, {"DERMQUEUE_S3_BUCKET": "lesions"}.get(variable, "postgresql://db.example/derm"))
    settings, programs = prepare_servers(tmp_path)
    assert ("seaweed" in names(programs)) == (variable != "DERMQUEUE_S3_BUCKET") == bool(settings.s3_folder)
    assert settings.database_url.startswith("sqlite") == (variable != "DERMQUEUE_DATABASE_URL")
    assert keeps_data_elsewhere()


def test_a_full_disk_does_not_end_whoever_tells_what_the_supervisor_does(monkeypatch):
    class FullDisk(io.StringIO):
        def flush(self) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(sys, "stdout", FullDisk())
    print_event("worker", "started", "process 1")
    assert sys.stdout.getvalue() == "worker     started process 1\n"


def test_a_port_on_which_something_listens_is_refused_before_anything_is_started(tmp_path):
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        local_stack(tmp_path, other.getsockname()[1], lambda *event: pytest.fail(f"{event} was started")) as stack,
        pytest.raises(ConfigurationInvalid, match="port_in_use"),
    ):
        stack.start()


def test_a_folder_that_was_moved_opens_its_own_database(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    prepare_servers(old)
    old.rename(new)
    assert Path(prepare_servers(new)[0].database_url.removeprefix("sqlite:///")).parent == new
