"""Inserts that change a row instead if it is there already."""

from collections.abc import Sequence

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from shared.table_base import Table

_INSERTS = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}


def upsert(session: Session, table: type[Table], values: dict[str, object], changed: Sequence[str]) -> None:
    """Insert a row; if there is one with its primary key, write only the `changed` columns.

    In one statement: any of several callers may be the first.
    """
    insert = _INSERTS[session.get_bind().dialect.name](table).values(values)
    new = {name: insert.excluded[name] for name in changed}
    session.execute(insert.on_conflict_do_update(index_elements=table.__table__.primary_key, set_=new))
