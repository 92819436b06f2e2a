"""The routes for the service itself: the model in use, and health."""

from flask import Response, jsonify

from api.answers import answer
from api.auth import allow
from api.blueprints import guarded_blueprint, open_blueprint
from api.schemas import CurrentModelOut, HealthOut, ReadyOut
from api.services import services
from shared.domain import Role
from shared.errors import Unavailable
from shared.store import models

model_blueprint = guarded_blueprint("models", "/v1/models", "The model that analyses the photographs.")
health_blueprint = open_blueprint("health", "For load balancers and orchestrators; no key is needed.")


@model_blueprint.get("/current", responses={200: CurrentModelOut})
@allow(*Role)
def read_current_model() -> Response:
    """Read the card of the model in use.

    It has data, figures with intervals, thresholds and limits. The answer is 503 until a worker has loaded a model.
    """
    with services().database.reading() as session:
        model = models.read_current_model(session)
    return answer(CurrentModelOut.model_validate(model, from_attributes=True), 200)


@health_blueprint.get("/healthz", responses={200: HealthOut})
def healthz() -> Response:
    """Report that this process is alive."""
    return jsonify(status="alive")


@health_blueprint.get("/readyz", responses={200: ReadyOut, 503: ReadyOut})
def readyz() -> Response:
    """Report whether cases can be accepted.

    503 without SQL or S3. An unreachable broker only delays the analysis: 200, `degraded`.
    """
    sql, s3, broker = _answers(_check_sql), _answers(services().store.check), services().doorbell.check()
    status = "unavailable" if not (sql and s3) else "ready" if broker else "degraded"
    response = jsonify(status=status, sql=sql, s3=s3, broker=broker)
    response.status_code = 503 if status == "unavailable" else 200
    return response


def _check_sql() -> None:
    with services().database.reading() as session:
        session.connection().exec_driver_sql("SELECT 1")


def _answers(check) -> bool:
    try:
        check()
    except Unavailable:
        return False
    return True
