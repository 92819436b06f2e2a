"""What all pages share: the session, CSRF tokens, the content security policy, and errors in plain words."""

import hmac
from collections.abc import Callable, Sequence
from functools import wraps
from urllib.parse import urlsplit

from flask import Blueprint, Response, current_app, g, redirect, render_template, request, url_for
from pydantic import BaseModel
from werkzeug.datastructures import ImmutableMultiDict

from api.answers import parse_case_id
from api.problems import RETRY_AFTER_S, checked
from api.services import services
from api.words import COVERAGE
from shared.database import read_clock
from shared.domain import CLASSES, EVIDENCE, NO_ALL_CLEAR, NOTICE, Role
from shared.errors import NotAllowed, NotFound
from shared.store import access, sessions

COOKIE = "dermqueue_session"
_LIVE = "Dermqueue-Live"
"""The header of a page's own background refresh."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)

pages = Blueprint("pages", __name__, url_prefix="/app", template_folder="templates", static_folder="static")


def guarded_pages(name: str) -> Blueprint:
    """Return a group of pages that need a session; each view names its roles with `allow`."""
    group = Blueprint(name, __name__)
    group.before_request(_authorize)
    return group


@pages.before_request
def _refuse_foreign_forms() -> None:
    """Refuse forms that another site's page submits, the sign-in form included (login CSRF)."""
    if request.method in ("GET", "HEAD", "OPTIONS"):
        return
    site = request.headers.get("Sec-Fetch-Site")  # sent over TLS and to localhost; otherwise there is only the origin
    origin = request.headers.get("Origin")
    own = {f"{scheme}://{request.host}" for scheme in ("http", "https")}
    if site not in (None, "same-origin") or (origin and origin not in own):
        raise NotAllowed("form_foreign", "This form was submitted from another site. Nothing was changed.")


def _authorize() -> Response | None:
    token, to = request.cookies.get(COOKIE, ""), services()
    with to.database.reading() as session:
        now = read_clock(session)
        signed_in = sessions.find_session(session, token, now)
    if signed_in is None:
        return _lead_to_sign_in()
    view = current_app.view_functions[request.endpoint]
    is_use = _LIVE not in request.headers and not getattr(view, "in_background", False)
    if is_use and signed_in.use_is_due:
        with to.database.writing() as session:
            sessions.note_session_use(session, signed_in.id, now)
    g.signed_in, g.caller = signed_in, signed_in.caller
    to.key_uses.note(g.caller.key_id)
    if g.caller.role not in getattr(view, "roles", ()):
        raise NotAllowed("role_not_allowed", f"You are signed in as {g.caller.role}. This page is for another role.")
    if request.method == "POST" and not getattr(view, "checks_form", False):
        check_form()
    return None


def _lead_to_sign_in() -> Response:
    """Redirect to the sign-in page, which is told where to go on and whether a form was not sent."""
    if request.method != "POST":
        told = {"then": request.full_path.rstrip("?")}
    elif request.endpoint == "pages.home.sign_out":
        told = {}
    else:
        _, _, path, query, _ = urlsplit(request.referrer or "")
        told = {"then": f"{path}?{query}" if query else path, "unsent": 1}
    return redirect(url_for("pages.sign_in.show_sign_in", **told), 303)


def check_form() -> None:
    """Check the form's CSRF token, and leave its fields as the routes under `/v1` take them.

    Those accept neither the token nor empty fields, and take the Idempotency-Key from a header.
    """
    sent = request.form.to_dict(flat=False)
    token, g.idempotency_key = sent.pop("csrf_token", [""])[0], sent.pop("idempotency_key", [None])[0]
    if not hmac.compare_digest(token.encode(), g.signed_in.csrf_secret.encode()):
        raise NotAllowed("form_outdated", "This page was open for too long. Go back, reload it and send it again.")
    request.form = ImmutableMultiDict([(name, value) for name, values in sent.items() for value in values if value])


def in_background(view: Callable) -> Callable:
    """Mark a view whose answer a refresh may bring into a page: it does not keep the session alive."""
    view.in_background = True
    return view


def checks_form(view: Callable) -> Callable:
    """Mark a view that checks its form itself, once it has raised the limits on the form's size."""

    @wraps(view)
    def check(**arguments) -> Response:
        check_form()
        return view(**arguments)

    check.checks_form = True
    return check


def read_query(schema: type[BaseModel]) -> BaseModel:
    """Return the query as a route under `/v1` takes it, without the fields that a form left empty."""
    return checked(schema, {name: value for name, value in request.args.items() if value})


def ask_with_form(view: Callable, schema: type[BaseModel], **arguments) -> Response:
    """Call a view under `/v1` with the form's fields as its JSON body."""
    return view.with_body(sent=read_fields(schema, request.form.to_dict()), **arguments)


def read_fields(schema: type[BaseModel], fields: dict) -> BaseModel:
    """Return a form's fields as a route under `/v1` takes them."""
    return checked(schema, fields, strict=False)


def name_clinics(case_ids: Sequence[str]) -> dict[str, str]:
    """Return the name of each case's clinic for a reviewer, who sees cases of several; for others, nothing."""
    if g.caller.role is not Role.REVIEWER:
        return {}
    with services().database.reading() as session:
        names = access.name_clinics_of(session, [parse_case_id(case_id) for case_id in case_ids])
    return {str(case_id): name for case_id, name in names.items()}


def show(template: str, **values) -> Response:
    """Return a page, or 304 if the client's copy is current by its ETag."""
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
        "coverage": COVERAGE,
    }


@pages.after_request
def _word_problems(response: Response) -> Response:
    """Show a problem as a page, unless a script of ours asked for JSON."""
    if response.mimetype == "application/problem+json" and not wants_json():
        template, values = g.get("problem_page", ("problem.html", {}))
        is_to_be_sent_again = response.status_code >= 500 or response.status_code in RETRY_AFTER_S
        if is_to_be_sent_again and g.get("idempotency_key"):
            # All or part of it may have been accepted, by this attempt or an earlier one: a resend needs the same key.
            values = values | {"idempotency_key": g.idempotency_key}
        response.set_data(render_template(template, problem=response.get_json(), **values))
        response.mimetype = "text/html"
    if response.mimetype == "text/html":
        response.headers.setdefault("Content-Security-Policy", POLICY)
    response.headers["Referrer-Policy"] = "same-origin"  # with `no-referrer`, browsers send forms with `Origin: null`
    return response


def wants_json() -> bool:
    """Return whether a script of ours is asking, rather than a person's browser."""
    return request.accept_mimetypes.best_match(["text/html", "application/json"]) == "application/json"


def word_problems_by(template: str, **values) -> None:
    """Show any later problem of this request with this template, as its `problem`."""
    g.problem_page = template, values


@pages.route("/<path:_>", methods=["GET", "POST"])
def _nothing_here(_: str) -> None:
    raise NotFound("page_not_found", "There is no page at this address.")
