"""How commands end that cannot do their work: the operator is told why, without a traceback and without a password."""

import pytest
from alembic.command import downgrade
from sqlalchemy import make_url, text

from deploy.embedded.program import find_free_port
from shared.migrations import _config
from tests.deploy.commands import refused

PASSWORD = "hunter2"  # pragma: allowlist secret


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_database_that_lets_nobody_in_is_quoted_without_the_password(dermqueue, database_url):
    wrong = make_url(database_url).set(password=PASSWORD, database="nowhere")
    variables = {"DERMQUEUE_DATABASE_URL": wrong.render_as_string(hide_password=False)}
    told = refused(dermqueue("clinic", "list", env=variables))
    assert "[database_unavailable]: " in told
    assert 'database "nowhere" does not exist' in told
    assert len(told.splitlines()) == 1
    assert PASSWORD not in told


def test_what_the_database_says_of_a_statement_is_quoted_without_the_statement(dermqueue, database, clinic_id):
    with database.writing() as session:
        session.execute(text("ALTER TABLE clinics RENAME TO lost"))
    told = refused(dermqueue("clinic", "list"))
    assert "clinics" in told  # no such table, or relation
    assert len(told.splitlines()) == 1
    assert "SELECT" not in told


@pytest.mark.parametrize(
    "command",
    [("clinic", "list"), ("key", "add", "--role", "admin"), ("failed", "list"), ("queue",), ("purge",)],
    ids=" ".join,
)
def test_on_tables_that_are_not_upgraded_a_command_says_what_to_run(dermqueue, database, command):
    with database.writer.begin() as connection:
        downgrade(_config(connection), "0001")
    told = refused(dermqueue(*command))
    assert "Run `dermqueue db upgrade`. [database_not_upgraded]" in told


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("command", "variable", "value", "said"),
    [
        ("purge", "S3_ENDPOINT_URL", "http://127.0.0.1:{port}", "Could not connect"),
        ("purge", "S3_SECRET_KEY", PASSWORD, "(403)"),
        ("up", "S3_SECRET_KEY", PASSWORD, "(403)"),
    ],
)
def test_an_object_store_that_is_away_or_refuses_is_quoted_without_the_secret(
    dermqueue, database, command, variable, value, said
):
    told = refused(dermqueue(command, env={f"DERMQUEUE_{variable}": value.format(port=find_free_port())}))
    assert "[storage_unavailable]: " in told
    assert said in told
    assert PASSWORD not in told


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_bundle_that_cannot_be_fetched_is_explained_once(dermqueue):
    told = refused(dermqueue("model", "show", "s3://nowhere/open", env={"DERMQUEUE_S3_SECRET_KEY": PASSWORD}))
    assert told.endswith("[bundle_unreachable]\n")
    assert told.count("SignatureDoesNotMatch") == 1
