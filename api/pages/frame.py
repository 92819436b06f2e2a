"""What all pages share: who is signed in, the forms' tokens, the browsers' policy, errors in plain words."""

import hmac
from collections.abc import Callable
from functools import wraps

from flask import Blueprint, Response, current_app, g, redirect, render_template, request, url_for
from pydantic import BaseModel
from werkzeug.datastructures import ImmutableMultiDict

from api.problems import RETRY_AFTER_S, checked
from api.services import services
from shared.database import read_clock
from shared.domain import CLASSES, EVIDENCE, NO_ALL_CLEAR, NOTICE, PLAUSIBLE_SHARE
from shared.errors import NotAllowed, NotFound
from shared.store import sessions

COOKIE = "dermqueue_session"
_LIVE = "Dermqueue-Live"
"""The header of a page that looks by itself whether something has changed."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)

pages = Blueprint("pages", __name__, url_prefix="/app", template_folder="templates", static_folder="static")


def guarded_pages(name: str) -> Blueprint:
    """Return a group of pages for those who signed in; each view says by `allow` for which roles."""
    group = Blueprint(name, __name__)
    group.before_request(_authorize)
    return group


@pages.before_request
def _refuse_foreign_forms() -> None:
    """Refuse what another site's page has a browser send; it may not even sign somebody in."""
    if request.method in ("GET", "HEAD", "OPTIONS"):
        return
    site = request.headers.get("Sec-Fetch-Site")  # browsers send it by TLS and to localhost, else only the origin
    origin = request.headers.get("Origin")
    own = {f"{scheme}://{request.host}" for scheme in ("http", "https")}
    if site not in (None, "same-origin") or (origin and origin not in own):
        raise NotAllowed("form_foreign", "This form was sent from another site's page. Nothing was done.")


def _authorize() -> Response | None:
    token, to = request.cookies.get(COOKIE, ""), services()
    with to.database.reading() as session:
        now = read_clock(session)
        signed_in = sessions.find_session(session, token, now)
    if signed_in is None:
        then = request.full_path.rstrip("?") if request.method == "GET" else None
        return redirect(url_for("pages.sign_in.show_sign_in", then=then), 303)
    if signed_in.use_is_due and _LIVE not in request.headers:
        with to.database.writing() as session:
            sessions.note_session_use(session, signed_in.id, now)
    g.signed_in, g.caller = signed_in, signed_in.caller
    to.key_uses.note(g.caller.key_id)
    view = current_app.view_functions[request.endpoint]
    if g.caller.role not in getattr(view, "roles", ()):
        raise NotAllowed("role_not_allowed", f"You are signed in as {g.caller.role}. This page is for somebody else.")
    if request.method == "POST" and not getattr(view, "checks_form", False):
        check_form()
    return None


def check_form() -> None:
    """Refuse a form that none of this session's pages has made; leave its fields as the routes under `/v1` take them.

    Those know neither the token nor fields that were left empty, and have the Idempotency-Key from a header.
    """
    sent = request.form.to_dict(flat=False)
    token, g.idempotency_key = sent.pop("csrf_token", [""])[0], sent.pop("idempotency_key", [None])[0]
    if not hmac.compare_digest(token.encode(), g.signed_in.csrf_secret.encode()):
        raise NotAllowed("form_outdated", "This page was open for too long. Go back, reload it and send it again.")
    request.form = ImmutableMultiDict([(name, value) for name, values in sent.items() for value in values if value])


def checks_form(view: Callable) -> Callable:
    """Have a form checked here, and not before room was made for all that it holds."""

    @wraps(view)
    def check(**arguments) -> Response:
        check_form()
        return view(**arguments)

    check.checks_form = True
    return check


def read_query(schema: type[BaseModel]) -> BaseModel:
    """Return the address's query as a route under `/v1` takes it, without fields that a form left empty."""
    return checked(schema, {name: value for name, value in request.args.items() if value})


def ask_with_form(view: Callable, schema: type[BaseModel], **arguments) -> Response:
    """Call a view under `/v1` whose JSON body these fields are."""
    return view.with_body(sent=read_fields(schema, request.form.to_dict()), **arguments)


def read_fields(schema: type[BaseModel], fields: dict) -> BaseModel:
    """Return a form's fields as a route under `/v1` takes them."""
    return checked(schema, fields, strict=False)


def show(template: str, **values) -> Response:
    """Return a page. Whoever has it already, as its ETag tells, is only told so."""
    response = Response(render_template(template, **values), mimetype="text/html")
    response.add_etag()
    return response.make_conditional(request)


@pages.context_processor
def _common() -> dict:
    signed_in = g.get("signed_in")
    return {
        "signed_in": signed_in,
        "role": signed_in.caller.role if signed_in else None,
        "notice": NOTICE,
        "no_all_clear": NO_ALL_CLEAR,
        "evidence": EVIDENCE,
        "classes": CLASSES,
        "plausible_share": PLAUSIBLE_SHARE,
    }


@pages.after_request
def _word_problems(response: Response) -> Response:
    """Show a problem as a page; a script of ours, which asks for JSON, gets it as it is."""
    if response.mimetype == "application/problem+json" and not wants_json():
        template, values = g.get("problem_page", ("problem.html", {}))
        is_to_be_sent_again = response.status_code >= 500 or response.status_code in RETRY_AFTER_S
        if is_to_be_sent_again and g.get("idempotency_key"):
            # It may have been taken in, whole or in part, now or the time before: sent again, it must be known again.
            values = values | {"idempotency_key": g.idempotency_key}
        response.set_data(render_template(template, problem=response.get_json(), **values))
        response.mimetype = "text/html"
    if response.mimetype == "text/html":
        response.headers.setdefault("Content-Security-Policy", POLICY)
    response.headers["Referrer-Policy"] = "same-origin"  # with none, browsers would hide a form's origin, too
    return response


def wants_json() -> bool:
    """Say whether a script of ours is asking, and not somebody who reads."""
    return request.accept_mimetypes.best_match(["text/html", "application/json"]) == "application/json"


def word_problems_by(template: str, **values) -> None:
    """Show what goes wrong from now on with this template, which is given it as `problem`."""
    g.problem_page = template, values


@pages.route("/<path:_>", methods=["GET", "POST"])
def _nothing_here(_: str) -> None:
    raise NotFound("page_not_found", "There is no page at this address.")
