"""The routes for webhooks, which notify a clinic of its cases' final states, and the admins' view of all of them."""

from uuid import UUID

from flask import Response

from api.answers import answer, parse_id
from api.auth import allow, caller
from api.blueprints import guarded_blueprint
from api.bodies import reads_body
from api.changes import changing
from api.problems import problem_responses
from api.services import services
from api.webhook_schemas import WebhookIn, WebhookListOut, WebhookMadeOut, WebhookOut, WebhookPath
from shared.domain import Role
from shared.errors import NotFound
from shared.store import webhooks
from shared.webhook_address import check_webhook_url

blueprint = guarded_blueprint(
    "webhooks", "/v1/webhooks", "Notifications of final states, signed according to Standard Webhooks."
)
admin_blueprint = guarded_blueprint("webhook_overview", "/v1/admin/webhooks", "The state of all clinics' webhooks.")


@blueprint.get("", responses={200: WebhookListOut})
@allow(Role.CLINIC)
def list_webhooks() -> Response:
    """List your webhooks."""
    return _list(caller().clinic_id)


@admin_blueprint.get("", responses={200: WebhookListOut})
@allow(Role.ADMIN)
def list_all_webhooks() -> Response:
    """List all clinics' webhooks, with the state of their messages."""
    return _list(None)


@blueprint.post(
    "",
    responses={
        201: WebhookMadeOut,
        **problem_responses(400, 413, webhooks_too_many=409, content_type_unsupported=415),
    },
)
@allow(Role.CLINIC)
@reads_body(json=WebhookIn)
def add_webhook(sent: WebhookIn) -> Response:
    """Add a webhook, to be notified of final states.

    A message is `{"type": "case.succeeded", "timestamp": …, "data": {"case_id": …, "state": …}}` and contains nothing
    about the patient. Verify its signature with a library from https://www.standardwebhooks.com. A message that is not
    answered with 2xx within 5 s is retried for a day; it may arrive twice, with the same `webhook-id`.
    """
    check_webhook_url(sent.url, services().settings.local_webhooks)
    with changing("webhook.added") as (session, now):
        webhook_id, secret = webhooks.add_webhook(session, caller().clinic_id, sent.url, now)
    return answer(WebhookMadeOut(id=webhook_id, url=sent.url, secret=secret), 201)


@blueprint.delete("/<webhook_id>", responses={204: None, **problem_responses(webhook_not_found=404)})
@allow(Role.CLINIC)
def remove_webhook(path: WebhookPath) -> Response:
    """Remove a webhook; pending messages are dropped."""
    webhook_id = _parse_webhook_id(path)
    with changing("webhook.removed") as (session, _):
        webhooks.remove_webhook(session, caller().clinic_id, webhook_id)
    return Response(status=204)


@blueprint.post("/<webhook_id>/enable", responses={204: None, **problem_responses(webhook_not_found=404)})
@allow(Role.CLINIC)
def enable_webhook(path: WebhookPath) -> Response:
    """Re-enable a disabled webhook.

    Nothing is sent about cases that finished in the meantime: list your cases.
    """
    webhook_id = _parse_webhook_id(path)
    with changing("webhook.enabled") as (session, _):
        webhooks.enable_webhook(session, caller().clinic_id, webhook_id)
    return Response(status=204)


def _list(clinic_id: UUID | None) -> Response:
    with services().database.reading() as session:
        found = [WebhookOut.of(known) for known in webhooks.list_webhooks(session, clinic_id)]
    return answer(WebhookListOut(webhooks=found), 200)


def _parse_webhook_id(path: WebhookPath) -> UUID:
    return parse_id(path.webhook_id, NotFound("webhook_not_found", "There is no such webhook."))
