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
    """Say which roles may call a view. A view that does not say is closed to everybody."""

    def mark(view: Callable) -> Callable:
        view.roles = roles
        return view

    return mark


def authorize() -> None:
    """Check the request's key against its view, before anything of the body is read.

    Raises:
        NotAuthenticated: no key, or one that is not valid.
        NotAllowed: a valid key of another role.
        TooMany: too many keys that are not valid came from this address.
    """
    g.caller = identify(read_bearer(), request.remote_addr or "")
    services().key_uses.note(g.caller.key_id)
    roles = getattr(current_app.view_functions[request.endpoint], "roles", ())
    if g.caller.role not in roles:
        allowed = " or ".join(roles) or "nobody"
        raise NotAllowed("role_not_allowed", f"A key of the role {g.caller.role} may not do this; it is for {allowed}.")


def read_bearer() -> str:
    """Return what the request offers as its key.

    Raises:
        NotAuthenticated: nothing.
    """
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise NotAuthenticated("key_missing", "Send your API key in the header: Authorization: Bearer <key>.")
    return key.strip()


def identify(key: str, address: str) -> Caller:
    """Return who holds this key, which was sent from this address.

    Raises:
        NotAuthenticated: nobody.
        TooMany: nobody, and see `authorize`. A valid key opens all the same: a clinic's devices share an address.
    """
    try:
        with services().database.looking() as connection:
            return access.authenticate(connection, key)
    except NotAuthenticated as error:
        services().throttle.check(address)
        services().throttle.note_failure(address)
        log.warning("key_refused code=%s address=%s", error.code, address)
        raise


def caller() -> Caller:
    """Return who is asking; only in views that `authorize` guards."""
    return g.caller
