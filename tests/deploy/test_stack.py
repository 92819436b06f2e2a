"""What the local stack makes of its folder and of the variables."""

import json
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy.cli import main
from deploy.embedded.program import find_free_port
from deploy.stack import CONNECTION, KEYS, _ensure_keys, keeps_data_elsewhere, local_stack, prepare_servers
from shared.database import read_clock
from shared.errors import ConfigurationInvalid, ModelUnusable
from shared.settings import load_settings
from shared.store import access


def names(programs) -> list[str]:
    return [program.name for program in programs]


def test_what_no_variable_names_is_embedded_and_keeps_its_ports_and_passwords(tmp_path):
    first, programs = prepare_servers(tmp_path)
    assert names(programs) == ["valkey", "seaweed"]
    assert prepare_servers(tmp_path)[0] == first
    assert first.s3_folder == tmp_path / "seaweed"


def test_a_variable_that_is_empty_names_no_server(tmp_path, monkeypatch):
    for name in ("DATABASE_URL", "BROKER_URL", "S3_ACCESS_KEY"):
        monkeypatch.setenv(f"DERMQUEUE_{name}", "")
    settings, programs = prepare_servers(tmp_path)
    assert names(programs) == ["valkey", "seaweed"]
    assert settings.s3_access_key
    assert not keeps_data_elsewhere()


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


def test_an_embedded_server_that_was_replaced_by_another_is_not_mistaken_for_it(tmp_path, monkeypatch):
    prepare_servers(tmp_path)
    with monkeypatch.context() as given:
        given.setenv("DERMQUEUE_DATABASE_URL", "postgresql://db.example/derm")
        given.setenv("DERMQUEUE_BROKER_URL", "redis://broker.example/0")
        prepare_servers(tmp_path)
    with pytest.raises(ConfigurationInvalid, match="DERMQUEUE_DATABASE_URL"):
        load_settings(tmp_path)


def test_a_port_on_which_something_listens_is_refused_before_anything_is_started(tmp_path):
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        local_stack(tmp_path, other.getsockname()[1], lambda *event: pytest.fail(f"{event} was started")) as stack,
        pytest.raises(ConfigurationInvalid, match="port_in_use"),
    ):
        stack.start()


@pytest.mark.parametrize(
    ("variable", "value", "code"),
    [("MODEL", "no-such-bundle", "bundle_missing"), ("OPERATING_POINT", "no-such", "operating_point_unknown")],
)
def test_a_misspelt_model_is_refused_before_anything_is_started(tmp_path, monkeypatch, variable, value, code):
    monkeypatch.setenv(f"DERMQUEUE_{variable}", value)
    with (
        local_stack(tmp_path, find_free_port(), lambda *event: pytest.fail(f"{event} was started")) as stack,
        pytest.raises(ModelUnusable, match=code),
    ):
        stack.start()


def test_what_a_killed_stack_left_is_not_mistaken_for_a_running_one(tmp_path):
    (tmp_path / CONNECTION).write_text("{}")
    with socket.create_server(("127.0.0.1", 0)) as other:
        done = CliRunner().invoke(main, ["demo", "--data-dir", str(tmp_path), "--port", str(other.getsockname()[1])])
    assert "port_in_use" in done.output  # so it tried to start a stack of its own
    assert not (tmp_path / CONNECTION).exists()


def test_a_stack_that_is_stopped_while_it_starts_is_not_called_broken(tmp_path):
    with local_stack(tmp_path, find_free_port(), lambda *_: stack.stop_event.set()) as stack:
        assert stack.start() == {}


@pytest.mark.parametrize(
    "command",
    [("up", "--data-dir", "/dev/null/stack"), ("up", "--port", "99999")],
)
def test_a_folder_or_a_port_that_cannot_be_used_is_reported_in_a_sentence(command):
    done = CliRunner().invoke(main, command)
    assert done.exit_code in (1, 2)
    assert "Error: " in done.output


def test_a_folder_that_was_moved_opens_its_own_database(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    prepare_servers(old)
    old.rename(new)
    assert Path(prepare_servers(new)[0].database_url.removeprefix("sqlite:///")).parent == new


def test_only_the_key_that_is_no_longer_valid_is_replaced(tmp_path, database):
    made = _ensure_keys(tmp_path, database)
    assert _ensure_keys(tmp_path, database) == made
    with database.writing() as session:
        access.revoke_key(session, made["reviewer_key"], read_clock(session))
    kept = _ensure_keys(tmp_path, database)
    assert {name for name in made if kept[name] != made[name]} == {"reviewer_key"}
    assert json.loads((tmp_path / KEYS).read_text()) == kept
    with database.reading() as session:
        keys, clinics = access.list_keys(session, read_clock(session)), access.list_clinics(session)
    valid = {key.prefix for key in keys if key.state == "valid"}
    assert valid == {key.split("_")[1] for key in kept.values()}
    assert len(clinics) == 1
