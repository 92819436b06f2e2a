"""Who is asking, and whether they may."""

from collections.abc import Callable

from flask import current_app, g, request

from api.services import services
from shared.domain import Caller, Role
from shared.errors import NotAllowed, NotAuthenticated
from shared.store import access


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
    """
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise NotAuthenticated("key_missing", "Send your API key in the header: Authorization: Bearer <key>.")
    with services().database.reading() as session:
        g.caller = access.authenticate(session, key.strip())
    roles = getattr(current_app.view_functions[request.endpoint], "roles", ())
    if g.caller.role not in roles:
        allowed = " or ".join(roles) or "nobody"
        raise NotAllowed("role_not_allowed", f"A key of the role {g.caller.role} may not do this; it is for {allowed}.")


def caller() -> Caller:
    """Return who is asking; only in views that `authorize` guards."""
    return g.caller
