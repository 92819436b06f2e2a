"""The OpenAPI document at `/openapi.json`, and the page at `/docs` to read it and try the API.

flask-openapi3 derives the document from the routes and models; what it gets wrong is corrected here.
"""

import re
from collections.abc import Iterator

from flask import jsonify, redirect
from flask_openapi3 import OpenAPI
from flask_openapi3_swagger.plugins import RegisterPlugin as SwaggerPages
from flask_openapi3_swagger.templates import swagger_html_string

from api.bodies import FORM
from api.hardening import csp_nonce
from api.problems import describe_headers, problem_responses

INTRODUCTION = """\
Skin-lesion triage. Every result is a decision aid for clinicians, not a diagnosis.

1. `POST /v1/cases` with a photograph answers 202 with the case's address.
2. `GET` that address, with `Prefer: wait=20` if you like, until `state` is final.
3. A `succeeded` case has a `result` and a heatmap, a `rejected` one an `error` that you can act on. A person looks into
   `failed` ones.

To send many photographs at once: `POST /v1/submissions`. To send one straight to the object store: `POST /v1/uploads`.
To be notified of final states instead of polling: `POST /v1/webhooks`.

Reviewers work through `GET /v1/worklist` and answer with `PUT /v1/cases/{case_id}/review`; admins monitor
`GET /v1/admin/queue`.

Send your key as `Authorization: Bearer <key>`. Errors are `application/problem+json` (RFC 9457): match on their `code`.
"""

_NEXT_PAGE = {"Link": 'The next page: `<address>; rel="next"`. Absent on the last one.'}
_RESPONSE_HEADERS = {
    ("submit_case", "202"): {"Location": "The case's address.", "Retry-After": "Seconds to wait before polling."},
    ("submit_many", "202"): {
        "Location": "The submission's address.",
        "Retry-After": "Seconds to wait before polling; absent once every case is final.",
    },
    ("read_submission", "200"): {"Retry-After": "Seconds to wait before polling; absent once every case is final."},
    ("read_case", "200"): {
        "ETag": "Changes with the case; send it as `If-None-Match`.",
        "Retry-After": "Seconds to wait before polling again; absent once the case is final.",
        "Preference-Applied": "The wait that was granted.",
    },
    ("read_worklist", "200"): _NEXT_PAGE,
    ("read_review", "200"): {"ETag": "Send it as `If-Match` with your own review."},
    ("put_review", "200"): {"ETag": "Send it as `If-Match` to change your review."},
    ("list_cases", "200"): _NEXT_PAGE,
    ("list_failed", "200"): _NEXT_PAGE,
}
_LINKS = {
    ("submit_case", "202"): ("read_case", "case_id", "id"),
    ("submit_many", "202"): ("read_submission", "submission_id", "id"),
    ("list_failed", "200"): ("requeue_failed", "case_id", "cases/0/id"),
    ("read_worklist", "200"): ("put_review", "case_id", "cases/0/id"),
    ("add_webhook", "201"): ("enable_webhook", "webhook_id", "id"),
    ("list_webhooks", "200"): ("remove_webhook", "webhook_id", "webhooks/0/id"),
}
"""OpenAPI links of each answer: the next operation, its parameter, and where in the answer its value is."""

_SCHEMA = "#/components/schemas/{model}"
_PAGE = swagger_html_string.replace("<title>Swagger UI", "<title>DermQueue").replace(
    "<head>", '<head>\n    <meta name="viewport" content="width=device-width, initial-scale=1">'
)
_PAGE = re.sub("<(script|style)>", r'<\1 nonce="{{ csp_nonce() }}">', _PAGE)


def register_description(app: OpenAPI) -> None:
    """Serve the document and the page; call this after every route is registered."""
    document = _describe(app)
    app.jinja_env.globals["csp_nonce"] = csp_nonce
    app.config.update(SWAGGER_HTML_STRING=_PAGE, SWAGGER_CONFIG={"layout": "BaseLayout"})
    app.json.sort_keys = False  # show fields in the order of their schemas
    app.register_blueprint(SwaggerPages.register(doc_url="/openapi.json"), url_prefix="/docs")
    app.add_url_rule("/openapi.json", "openapi", lambda: jsonify(document))
    app.add_url_rule("/docs", "docs", lambda: redirect("/docs/swagger"))
    app.add_url_rule("/", "root", lambda: redirect("/docs"))


def _describe(app: OpenAPI) -> dict:
    document = app.api_doc
    _describe_bodies(app, document)
    for operation in _operations(document):
        if "description" in operation:
            operation["description"] = operation["description"].replace("<br/>", "\n").strip()
        responses = operation["responses"]
        if "application/json" in responses["400"]["content"]:
            del responses["400"]  # the library adds one where a route names none; ours are all problems
        operation["responses"] = dict(sorted(responses.items()))
        for status, response in responses.items():
            if headers := _RESPONSE_HEADERS.get((operation["operationId"], status)):
                response |= describe_headers(headers)
            if link := _LINKS.get((operation["operationId"], status)):
                response["links"] = _link(*link)
        for parameter in operation.get("parameters", []):
            parameter["schema"] = _not_null(parameter["schema"])
    return document


def _describe_bodies(app: OpenAPI, document: dict) -> None:
    """Add the bodies that views read through `reads_body`, which the library does not see."""
    schemas = document["components"]["schemas"]
    for rule in app.url_map.iter_rules():
        if bodies := getattr(app.view_functions[rule.endpoint], "bodies", None):
            content = {kind: {"schema": {"$ref": _SCHEMA.format(model=body.__name__)}} for kind, body in bodies.items()}
            (method,) = rule.methods - {"OPTIONS"}
            operation = document["paths"][re.sub("<(.*?)>", r"{\1}", rule.rule)][method.lower()]
            operation["requestBody"] = {"content": content, "required": True}
            operation["responses"]["408"] = {"description": "Request Timeout"} | problem_responses(408)[408]
            for kind, body in bodies.items():
                schema = body.model_json_schema(ref_template=_SCHEMA)
                schemas.update(schema.pop("$defs", {}))
                schemas[body.__name__] = schema
                if kind == FORM:
                    schema["properties"] = {name: _not_null(field) for name, field in schema["properties"].items()}


def _operations(document: dict) -> Iterator[dict]:
    for path_item in document["paths"].values():
        yield from path_item.values()


def _link(operation_id: str, parameter: str, pointer: str) -> dict:
    return {operation_id: {"operationId": operation_id, "parameters": {parameter: f"$response.body#/{pointer}"}}}


def _not_null(schema: dict) -> dict:
    """Return an optional field's schema without null: parameters and forms cannot express it, only omit the field."""
    if {"type": "null"} not in schema.get("anyOf", []):
        return schema
    own = {name: value for name, value in schema.items() if name not in ("anyOf", "default")}
    return {**schema["anyOf"][0], **own}
