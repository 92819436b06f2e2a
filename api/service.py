"""The routes about the service itself: the model in use, health, the interface's description."""

from flask import Response, current_app, jsonify, redirect
from flask_openapi3 import APIBlueprint, OpenAPI, Tag
from flask_openapi3_swagger.plugins import RegisterPlugin as SwaggerPages

from api.auth import allow, authorize
from api.problems import problem_responses
from api.schemas import CurrentModelOut, HealthOut, ReadyOut
from api.services import services
from shared.domain import Role
from shared.errors import Unavailable
from shared.store import models

model_blueprint = APIBlueprint(
    "models", __name__, url_prefix="/v1/models", abp_tags=[Tag(name="Model")], abp_security=[{"bearer": []}]
)
model_blueprint.before_request(authorize)
health_blueprint = APIBlueprint("health", __name__, abp_tags=[Tag(name="Health")])


@model_blueprint.get("/current", responses={200: CurrentModelOut, **problem_responses(400, 401, 403, 503)})
@allow(*Role)
def read_current_model() -> Response:
    """Read the card of the model in use: its data, figures with intervals, thresholds and limits."""
    with services().database.reading() as session:
        row = models.read_current_model(session)
        answer = CurrentModelOut(digest=row.digest, manifest=row.manifest, card=row.card)
    return Response(answer.model_dump_json(), mimetype="application/json")


@health_blueprint.get("/healthz", responses={200: HealthOut})
def healthz() -> Response:
    """Say that this process is alive."""
    return jsonify(status="alive")


@health_blueprint.get("/readyz", responses={200: ReadyOut, 503: ReadyOut})
def readyz() -> Response:
    """Say whether cases can be taken: 503 without SQL or S3; a broker that is away only delays the analysis."""
    sql, s3, broker = _answers(_check_sql), _answers(services().store.check), services().doorbell.check()
    status = "unavailable" if not (sql and s3) else "ready" if broker else "degraded"
    response = jsonify(status=status, sql=sql, s3=s3, broker=broker)
    response.status_code = 503 if status == "unavailable" else 200
    return response


def register_description(app: OpenAPI) -> None:
    """Serve `/openapi.json` and, at `/docs`, a page to try it on."""
    app.register_blueprint(SwaggerPages.register(doc_url="/openapi.json"), url_prefix="/docs")
    app.add_url_rule("/openapi.json", "openapi", lambda: jsonify(current_app.api_doc))
    app.add_url_rule("/docs", "docs", lambda: redirect("/docs/swagger"))
    app.add_url_rule("/", "root", lambda: redirect("/docs"))


def _check_sql() -> None:
    with services().database.reading() as session:
        session.connection().exec_driver_sql("SELECT 1")


def _answers(check) -> bool:
    try:
        check()
    except Unavailable:
        return False
    return True
