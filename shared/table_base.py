"""What all SQL tables share: names of constraints, timestamps in UTC."""

from datetime import UTC, datetime

from sqlalchemy import JSON, DateTime, Index, LargeBinary, MetaData, TextClause, TypeDecorator
from sqlalchemy.orm import DeclarativeBase


class UtcDateTime(TypeDecorator):
    """A timestamp in UTC. SQLite drops time zones, so they are restored on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Table(DeclarativeBase):
    # Names that do not depend on the database, so that a migration can name what it changes.
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: UtcDateTime, dict: JSON, list: JSON, bytes: LargeBinary}  # noqa: RUF012 (SQLAlchemy's)


def partial_index(name: str, *columns: str, where: TextClause) -> Index:
    """Return an index of the rows that meet a condition, on either kind of database."""
    return Index(name, *columns, sqlite_where=where, postgresql_where=where)


def one_of(column: str, values: type) -> str:
    """Return the condition that a column holds one of an enumeration's values."""
    return f"{column} IN ({', '.join(repr(str(value)) for value in values)})"
