"""Signing in with a key, and out."""

from flask import Blueprint, Response, g, redirect, request, url_for

from api.auth import allow, identify
from api.pages.frame import COOKIE, guarded_pages, show, word_problems_by
from api.services import services
from shared.database import read_clock
from shared.domain import Role
from shared.store import sessions

_HOMES = {Role.CLINIC: "clinic.list_cases", Role.REVIEWER: "reviewer.list_work", Role.ADMIN: "admin.show_queue"}

_FORM_BYTES = 8 * 1024

signing_in = Blueprint("sign_in", __name__)
home = guarded_pages("home")


@signing_in.get("/sign-in")
def show_sign_in() -> Response:
    return show("sign_in.html", then=_own_address(request.args.get("then", "")), unsent="unsent" in request.args)


@signing_in.post("/sign-in")
def sign_in() -> Response:
    request.max_content_length = _FORM_BYTES  # the sender is not authenticated yet
    then = _own_address(request.form.get("then", ""))
    word_problems_by("sign_in.html", then=then)
    caller = identify(request.form.get("key", "").strip(), request.remote_addr or "")
    response = redirect(then or url_for("pages.home.go_home"), 303)
    with services().database.writing() as session:
        now = read_clock(session)
        signed_in = sessions.find_session(session, request.cookies.get(COOKIE, ""), now)
        if signed_in and signed_in.caller.key_id == caller.key_id:
            sessions.renew_session(session, signed_in.id, now)
            return response  # a new session's CSRF token would invalidate forms open in other tabs
        token = sessions.begin_session(session, caller, now)
    response.set_cookie(COOKIE, token, path="/app", secure=request.is_secure, httponly=True, samesite="Strict")
    return response


@home.get("/")
@home.get("")
@allow(*Role)
def go_home() -> Response:
    return redirect(url_for(f"pages.{_HOMES[g.caller.role]}"), 303)


@home.post("/sign-out")
@allow(*Role)
def sign_out() -> Response:
    with services().database.writing() as session:
        sessions.end_session(session, g.signed_in.id)
    response = redirect(url_for("pages.sign_in.show_sign_in"), 303)
    response.delete_cookie(COOKIE, path="/app", secure=request.is_secure, httponly=True, samesite="Strict")
    response.headers["Clear-Site-Data"] = '"cache"'  # the thumbnails
    return response


def _own_address(address: str) -> str:
    """Return the address that was asked for before signing in, or "" if it leads out of the pages."""
    return address if address.startswith("/app/") and "\\" not in address else ""
