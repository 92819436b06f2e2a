"""The bundles that workers have loaded."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from shared.errors import Unavailable
from shared.store.upsert import upsert
from shared.tables import ModelRow


@dataclass(frozen=True)
class LoadedModel:
    """A bundle that a worker has loaded."""

    digest: str
    manifest: dict
    card: str


def activate_model(session: Session, digest: str, manifest: dict, card: str, now: datetime) -> None:
    """Record that a worker has loaded this bundle; it becomes the current one, with this card."""
    values = {"digest": digest, "manifest": manifest, "card": card, "activated_at": now}
    upsert(session, ModelRow, values, changed=["card", "activated_at"])


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
