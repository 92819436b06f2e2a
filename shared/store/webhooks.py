"""Webhooks: where clinics are notified of final states, and the messages to them."""

import base64
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from sqlalchemy import case, delete, exists, func, insert, select, update
from sqlalchemy.orm import Session

from shared.errors import Conflict, NotFound
from shared.service_tables import DeliveryRow, WebhookRow
from shared.tables import CaseRow

MOST_PER_CLINIC = 5
RETRY_AFTER_S = (5, 300, 1800, 7200, 18_000, 36_000, 36_000)
"""Delays between attempts, as Standard Webhooks suggests: over a day in all. Then see `record_failure`."""

_CLAIMED_FOR = timedelta(minutes=2)
_KEPT_FOR = timedelta(days=30)
_SECRET_BYTES = 32


@dataclass(frozen=True)
class Delivery:
    """One attempt to tell a webhook that a case has ended."""

    id: UUID
    url: str
    secret: str
    case_id: UUID
    state: str
    created_at: datetime
    attempt: int


@dataclass(frozen=True)
class KnownWebhook:
    """A webhook without its secret, with counts of its messages. `last_error` is of the newest message that has one."""

    id: UUID
    clinic_id: UUID
    url: str
    created_at: datetime
    disabled_at: datetime | None
    pending: int
    delivered: int
    given_up: int
    last_error: str | None


def add_webhook(session: Session, clinic_id: UUID, url: str, now: datetime) -> tuple[UUID, str]:
    """Register a URL for a clinic's final states; return the webhook's id and its secret.

    Raises:
        Conflict: `webhooks_too_many`.
    """
    if session.scalar(select(func.count()).where(WebhookRow.clinic_id == clinic_id)) >= MOST_PER_CLINIC:
        raise Conflict("webhooks_too_many", f"A clinic may have at most {MOST_PER_CLINIC} webhooks.")
    key = base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()
    row = WebhookRow(id=uuid4(), clinic_id=clinic_id, url=url, secret=f"whsec_{key}", created_at=now)
    session.add(row)
    session.flush()
    return row.id, row.secret


def list_webhooks(session: Session, clinic_id: UUID | None) -> Sequence[KnownWebhook]:
    """Return a clinic's webhooks, or those of all clinics, oldest first."""
    of_webhook = DeliveryRow.webhook_id == WebhookRow.id
    newest_error = (
        select(DeliveryRow.error)
        .where(of_webhook, DeliveryRow.error.is_not(None))
        .order_by(DeliveryRow.created_at.desc())
        .limit(1)
        .correlate(WebhookRow)
        .scalar_subquery()
    )
    ends = (DeliveryRow.due_at, DeliveryRow.delivered_at, DeliveryRow.given_up_at)
    query = (
        select(WebhookRow, *(func.count(case((end.is_not(None), 1))) for end in ends), newest_error)
        .outerjoin(DeliveryRow, of_webhook)
        .group_by(WebhookRow.id)
        .order_by(WebhookRow.created_at)
    )
    if clinic_id is not None:
        query = query.where(WebhookRow.clinic_id == clinic_id)
    return [
        KnownWebhook(row.id, row.clinic_id, row.url, row.created_at, row.disabled_at, *numbers_and_error)
        for row, *numbers_and_error in session.execute(query)
    ]


def remove_webhook(session: Session, clinic_id: UUID | None, webhook_id: UUID) -> None:
    """Remove a webhook of this clinic, or of any, with its messages.

    Cases that are just ending are waited for: a message that came after the others were removed would forbid it.

    Raises:
        NotFound: `webhook_not_found`: there is none, or it is another clinic's.
    """
    row = _lock_webhook(session, clinic_id, webhook_id)
    session.execute(delete(DeliveryRow).where(DeliveryRow.webhook_id == webhook_id))
    session.delete(row)
    session.flush()


def enable_webhook(session: Session, clinic_id: UUID | None, webhook_id: UUID) -> None:
    """Enable a disabled webhook; cases that ended meanwhile are not announced.

    Raises:
        NotFound: see `remove_webhook`.
    """
    _lock_webhook(session, clinic_id, webhook_id).disabled_at = None


def announce(session: Session, case_ids: Sequence[UUID], now: datetime) -> None:
    """Queue messages to their clinics' webhooks, in the transaction that ends these cases.

    A webhook that is being removed is waited for: a message to one that is gone would undo the whole transaction.
    """
    if not case_ids:
        return
    found = session.execute(
        select(CaseRow.id, CaseRow.state, WebhookRow.id)
        .join(WebhookRow, WebhookRow.clinic_id == CaseRow.clinic_id)
        .where(CaseRow.id.in_(case_ids), WebhookRow.disabled_at.is_(None))
        .with_for_update(of=WebhookRow, read=True, key_share=True)
    )
    values = {"created_at": now, "attempts": 0, "due_at": now}
    rows = [
        values | {"id": uuid4(), "webhook_id": webhook_id, "case_id": case_id, "state": state}
        for case_id, state, webhook_id in found
    ]
    if rows:
        session.execute(insert(DeliveryRow), rows)


def claim_deliveries(session: Session, limit: int, now: datetime) -> Sequence[Delivery]:
    """Return due messages and postpone them: if the caller dies, another one sends them."""
    rows = session.execute(
        select(DeliveryRow, WebhookRow.url, WebhookRow.secret)
        .join(WebhookRow, WebhookRow.id == DeliveryRow.webhook_id)
        .where(DeliveryRow.due_at <= now)
        .order_by(DeliveryRow.due_at)
        .limit(limit)
        .with_for_update(of=DeliveryRow, skip_locked=True)
    ).all()
    for row, _, _ in rows:
        row.attempts += 1
        row.due_at = now + _CLAIMED_FOR
    return [
        Delivery(row.id, url, secret, row.case_id, row.state, row.created_at, row.attempts) for row, url, secret in rows
    ]


def record_delivered(session: Session, delivery_id: UUID, now: datetime) -> None:
    """Record that a webhook has accepted a message."""
    session.execute(
        update(DeliveryRow).where(DeliveryRow.id == delivery_id).values(delivered_at=now, due_at=None, error=None)
    )


def record_failure(session: Session, delivery: Delivery, error: str, now: datetime, gone: bool = False) -> bool:
    """Record why a message was not accepted, and when to retry; return False if its webhook was given up on.

    After its last attempt a message is given up. If its webhook is gone, or has accepted no other message since this
    one was made, the webhook is disabled and everything that waits for it is given up, too.
    """
    retry = not gone and delivery.attempt <= len(RETRY_AFTER_S)
    due_at = now + timedelta(seconds=RETRY_AFTER_S[delivery.attempt - 1]) if retry else None
    if not retry:  # the webhook before its messages: several that fail at once would wait for each other's
        of_message = select(WebhookRow.id).join(DeliveryRow, DeliveryRow.webhook_id == WebhookRow.id)
        session.execute(of_message.where(DeliveryRow.id == delivery.id).with_for_update(of=WebhookRow))
    webhook_id = session.scalar(
        update(DeliveryRow)
        .where(DeliveryRow.id == delivery.id, DeliveryRow.due_at.is_not(None))
        .values(error=error, due_at=due_at, given_up_at=None if retry else now)
        .returning(DeliveryRow.webhook_id)
        .execution_options(synchronize_session=False)
    )
    if retry or webhook_id is None:
        return retry
    since = DeliveryRow.due_at.is_(None), DeliveryRow.delivered_at >= delivery.created_at
    has_accepted = exists().where(DeliveryRow.webhook_id == webhook_id, *since)
    if not gone and session.scalar(select(has_accepted)):
        return True
    waiting = DeliveryRow.webhook_id == webhook_id, DeliveryRow.due_at.is_not(None)
    session.execute(update(DeliveryRow).where(*waiting).values(due_at=None, given_up_at=now))
    session.execute(update(WebhookRow).where(WebhookRow.id == webhook_id).values(disabled_at=now))
    return False


def forget_old_deliveries(session: Session, now: datetime) -> None:
    """Remove delivered and given-up messages that were made more than a month ago."""
    session.execute(delete(DeliveryRow).where(DeliveryRow.created_at < now - _KEPT_FOR, DeliveryRow.due_at.is_(None)))


def _lock_webhook(session: Session, clinic_id: UUID | None, webhook_id: UUID) -> WebhookRow:
    row = session.get(WebhookRow, webhook_id, with_for_update=True)
    if row is None or clinic_id not in (None, row.clinic_id):
        raise NotFound("webhook_not_found", "There is no such webhook.")
    return row
