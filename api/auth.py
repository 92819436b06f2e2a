"""Who is asking, and whether they may."""

import logging
from collections.abc import Callable

from flask import current_app, g, request

from api.services import services
from shared.domain import Caller, Role
from shared.errors import NotAllowed, NotAuthenticated
from shared.store import access

log = logging.getLogger(__name__)


def allow(*roles: Role) -> Callable:
    """Name the roles that may call a view. A view that names none is closed to everybody."""

    def mark(view: Callable) -> Callable:
        view.roles = roles
        return view

    return mark


def authorize() -> None:
    """Check the request's key against its view, before any of the body is read.

    Raises:
        NotAuthenticated: no key, or an invalid one.
        NotAllowed: a valid key with another role.
        TooMany: too many invalid keys came from this address.
    """
    g.caller = identify(read_bearer(), request.remote_addr or "")
    services().key_uses.note(g.caller.key_id)
    roles = getattr(current_app.view_functions[request.endpoint], "roles", ())
    if g.caller.role not in roles:
        allowed = " or ".join(roles) or "nobody"
        raise NotAllowed(
            "role_not_allowed", f"A key with the role {g.caller.role} may not do this; it is for {allowed}."
        )


def read_bearer() -> str:
    """Return the request's bearer token.

    Raises:
        NotAuthenticated: `key_missing`.
    """
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise NotAuthenticated("key_missing", "Send your API key in the header: Authorization: Bearer <key>.")
    return key.strip()


def identify(key: str, address: str) -> Caller:
    """Return who holds this key, which was sent from this address.

    Raises:
        NotAuthenticated: the key is invalid.
        TooMany: the key is invalid, and see `authorize`. A valid key always works: a clinic's devices share an address.
    """
    try:
        with services().database.autocommitting() as connection:
            return access.authenticate(connection, key)
    except NotAuthenticated as error:
        services().throttle.check(address)
        services().throttle.note_failure(address)
        log.warning("key_refused code=%s address=%s", error.code, address)
        raise


def caller() -> Caller:
    """Return who is asking; for views guarded by `authorize` only."""
    return g.caller
