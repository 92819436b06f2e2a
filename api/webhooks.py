"""The routes of webhooks: where a clinic wants to be told of its cases' final states, and what admins see of that."""

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

blueprint = guarded_blueprint("webhooks", "/v1/webhooks", "Messages about final states, signed by Standard Webhooks.")
admin_blueprint = guarded_blueprint("webhook_overview", "/v1/admin/webhooks", "How clinics' webhooks fare.")


@blueprint.get("", responses={200: WebhookListOut})
@allow(Role.CLINIC)
def list_webhooks() -> Response:
    """List your webhooks."""
    return _list(caller().clinic_id)


@admin_blueprint.get("", responses={200: WebhookListOut})
@allow(Role.ADMIN)
def list_all_webhooks() -> Response:
    """List every clinic's webhooks and how their messages fare."""
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
    """Be told of final states.

    A message is `{"type": "case.succeeded", "timestamp": …, "data": {"case_id": …, "state": …}}` and says nothing of
    the patient. Check its signature with a library of https://www.standardwebhooks.com. What is not answered by 2xx
    within 5 s is sent again, for a day; the same message may come twice, under the same `webhook-id`.
    """
    check_webhook_url(sent.url, services().settings.local_webhooks)
    with changing("webhook.added") as (session, now):
        webhook_id, secret = webhooks.add_webhook(session, caller().clinic_id, sent.url, now)
    return answer(WebhookMadeOut(id=webhook_id, url=sent.url, secret=secret), 201)


@blueprint.delete("/<webhook_id>", responses={204: None, **problem_responses(webhook_not_found=404)})
@allow(Role.CLINIC)
def remove_webhook(path: WebhookPath) -> Response:
    """Be told no more; what was on its way is dropped."""
    webhook_id = _parse_webhook_id(path)
    with changing("webhook.removed") as (session, _):
        webhooks.remove_webhook(session, caller().clinic_id, webhook_id)
    return Response(status=204)


@blueprint.post("/<webhook_id>/enable", responses={204: None, **problem_responses(webhook_not_found=404)})
@allow(Role.CLINIC)
def enable_webhook(path: WebhookPath) -> Response:
    """Use a webhook again that was disabled.

    What ended meanwhile is not told: list your cases.
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
