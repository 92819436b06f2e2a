"""Groups of routes: guarded by a key, or open to all."""

from flask import request
from flask_openapi3 import APIBlueprint, Tag

from api.auth import authorize
from api.problems import problem_responses
from shared.errors import RequestInvalid


def guarded_blueprint(name: str, url_prefix: str, description: str) -> APIBlueprint:
    """Return a group of routes that all require a key, as their description says."""
    blueprint = APIBlueprint(
        name,
        __name__,
        url_prefix=url_prefix,
        abp_tags=[Tag(name=name.capitalize(), description=description)],
        abp_security=[{"bearer": []}],
        abp_responses=problem_responses(401, 403, 429, 503),
        operation_id_callback=_view_name,
    )
    blueprint.before_request(authorize)
    blueprint.before_request(_refuse_repeated)
    return blueprint


def open_blueprint(name: str, description: str) -> APIBlueprint:
    """Return a group that needs no key."""
    tag = Tag(name=name.capitalize(), description=description)
    return APIBlueprint(name, __name__, abp_tags=[tag], operation_id_callback=_view_name)


def _refuse_repeated() -> None:
    """Refuse a parameter that the query has twice: the library would take the first one without a word."""
    for name, values in request.args.lists():
        if len(values) > 1:
            raise RequestInvalid("field_repeated", f"The query has {name!r} more than once.")


def _view_name(*, name: str, path: str, method: str) -> str:
    """Name an operation after its view, so that generated clients have readable calls such as `submit_case`."""
    return name
