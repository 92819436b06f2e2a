"""The bundles that workers have loaded."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import exists, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from shared.errors import Unavailable
from shared.tables import ModelRow

_INSERTS = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}


@dataclass(frozen=True)
class LoadedModel:
    """A bundle that a worker has loaded."""

    digest: str
    manifest: dict
    card: str


def activate_model(session: Session, digest: str, manifest: dict, card: str, now: datetime) -> None:
    """Record that a worker has loaded this bundle; it becomes the current one, with this card.

    In one statement: any of several workers that start together may be the first.
    """
    values = {"digest": digest, "manifest": manifest, "card": card, "activated_at": now}
    insert = _INSERTS[session.get_bind().dialect.name](ModelRow).values(values)
    session.execute(insert.on_conflict_do_update(index_elements=["digest"], set_={"card": card, "activated_at": now}))


def is_known(session: Session, digest: str) -> bool:
    """Tell whether some worker has announced this bundle to this database."""
    return session.scalar(select(exists().where(ModelRow.digest == digest)))


def read_current_model(session: Session) -> LoadedModel:
    """Return the bundle that was activated last.

    Raises:
        Unavailable: `model_not_loaded`: no worker has ever loaded one.
    """
    row = session.scalar(select(ModelRow).order_by(ModelRow.activated_at.desc()).limit(1))
    if row is None:
        raise Unavailable(
            "model_not_loaded", "No worker has loaded a model yet; cases wait in the queue until one does."
        )
    return LoadedModel(row.digest, row.manifest, row.card)
