"""How many submissions a second one PostgreSQL commits: `python -m tests.rehearsal.ceiling`.

Each is the transaction of `POST /v1/cases`, with the audit trail, whose chain has one end, and without.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import click

from shared.database import Database, open_database, read_clock
from shared.migrations import upgrade
from shared.store import cases, trail
from tests.factories import add_clinic, clinic_caller, new_case
from tests.servers.postgres import running_postgres

CLIENTS = 8


@click.command()
@click.option("--seconds", default=10.0, show_default=True, help="How long each of the two is measured.")
def main(seconds: float) -> None:
    """Measure intake at its narrowest place."""
    with running_postgres() as url:
        database = open_database(url)
        upgrade(database)
        for name, submit in (("with the trail", _submit_on_record), ("without it", _submit)):
            with ThreadPoolExecutor(CLIENTS) as pool:
                clinics = [add_clinic(database) for _ in range(CLIENTS)]
                counts = pool.map(
                    lambda clinic_id, submit=submit: _count(database, clinic_id, submit, seconds), clinics
                )
                click.echo(f"{name}: {sum(counts) / seconds:.0f} submissions per second by {CLIENTS} clients")
        database.engine.dispose()


def _count(database: Database, clinic_id: UUID, submit: Callable[[Database, UUID], None], seconds: float) -> int:
    until_s, count = time.monotonic() + seconds, 0
    while time.monotonic() < until_s:
        submit(database, clinic_id)
        count += 1
    return count


def _submit(database: Database, clinic_id: UUID) -> None:
    with database.writing() as session:
        cases.add_case(session, new_case(clinic_id), read_clock(session))


def _submit_on_record(database: Database, clinic_id: UUID) -> None:
    with database.writing() as session:
        now = read_clock(session)
        case = cases.add_case(session, new_case(clinic_id), now)
        trail.audit(session, clinic_caller(clinic_id), "case.submitted", [case.id], now)


if __name__ == "__main__":
    main()
