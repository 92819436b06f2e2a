"""The API process: wires everything up."""

from importlib.metadata import version
from threading import BoundedSemaphore

from flask import Response
from flask_openapi3 import Info, OpenAPI

from api import cases, pictures, service
from api.description import INTRODUCTION, register_description
from api.problems import Problem, raise_invalid_field, register_problems
from api.services import EXTENSION, Services
from shared.database import open_database
from shared.dispatch import Doorbell, make_celery
from shared.settings import Settings
from shared.storage import open_object_store

_FIELDS_BYTES = 64 * 1024
"""What the fields beside the photograph and the multipart boundaries may take."""


def create_app(settings: Settings) -> OpenAPI:
    """Return the WSGI application; nothing connects until the first request."""
    app = OpenAPI(
        __name__,
        info=Info(title="DermQueue", version=version("dermqueue"), description=INTRODUCTION),
        security_schemes={"bearer": {"type": "http", "scheme": "bearer", "description": "Your API key: `dq_…`."}},
        static_folder=None,
        doc_ui=False,
        validation_error_status=400,
        validation_error_model=Problem,
        validation_error_callback=raise_invalid_field,
    )
    app.config["MAX_CONTENT_LENGTH"] = settings.max_upload_bytes + _FIELDS_BYTES
    app.extensions[EXTENSION] = Services(
        settings=settings,
        database=open_database(settings.database_url),
        store=open_object_store(settings),
        doorbell=Doorbell(make_celery(settings)),
        waiting_seats=BoundedSemaphore(settings.api_threads // 2),
    )
    register_problems(app)
    for blueprint in (cases.blueprint, pictures.blueprint, service.model_blueprint, service.health_blueprint):
        app.register_api(blueprint)
    register_description(app)
    app.after_request(_harden)
    return app


def _harden(response: Response) -> Response:
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Cache-Control", "no-store")
    return response
