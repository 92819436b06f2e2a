"""The API process's composition root."""

from importlib.metadata import version
from threading import BoundedSemaphore

from flask_openapi3 import Info, OpenAPI
from werkzeug.middleware.proxy_fix import ProxyFix

from api import (
    access,
    admin,
    cases,
    overview,
    pictures,
    reports,
    reviews,
    service,
    submissions,
    uploads,
    webhooks,
    worklist,
)
from api.bodies import SpoolingRequest
from api.description import INTRODUCTION, register_description
from api.hardening import harden
from api.limits import Backlog, KeyUses, Throttle
from api.metrics import register_metrics
from api.observation import register_observation
from api.pages import pages
from api.problems import Problem, raise_invalid_field, register_problems
from api.reads import KnownReads
from api.services import EXTENSION, Services
from shared.database import open_database
from shared.dispatch import BusyDoorbell, Doorbell, make_celery
from shared.settings import Settings
from shared.storage import open_object_store

_FIELDS_BYTES = 64 * 1024
"""Allowance for the form's other fields and the multipart boundaries."""


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
    app.request_class = SpoolingRequest
    app.config["MAX_CONTENT_LENGTH"] = settings.max_upload_bytes + _FIELDS_BYTES
    database = open_database(settings.database_url)
    app.extensions[EXTENSION] = Services(
        settings=settings,
        database=database,
        store=open_object_store(settings, max_connections=max(1, settings.api_threads // 4)),
        doorbell=BusyDoorbell(Doorbell(make_celery(settings))),
        waiting_seats=BoundedSemaphore(settings.api_threads // 2),
        photograph_seats=BoundedSemaphore(settings.photographs_in_memory),
        picture_seats=BoundedSemaphore(max(1, settings.photographs_in_memory // 2)),
        submission_seats=BoundedSemaphore(max(1, settings.api_threads // 4)),
        backlog=Backlog(settings),
        throttle=Throttle(settings.wrong_keys_per_minute),
        key_uses=KeyUses(database),
        reads=KnownReads(),
    )
    proxies = settings.trusted_proxies
    app.wsgi_app = ProxyFix(app.wsgi_app, x_for=proxies, x_proto=proxies, x_host=0)
    register_observation(app)
    register_problems(app)
    for blueprint in (
        cases.blueprint,
        uploads.blueprint,
        submissions.blueprint,
        pictures.blueprint,
        worklist.blueprint,
        reviews.blueprint,
        reports.blueprint,
        admin.blueprint,
        overview.blueprint,
        access.blueprint,
        webhooks.blueprint,
        webhooks.admin_blueprint,
        service.model_blueprint,
        service.health_blueprint,
    ):
        app.register_api(blueprint)
    app.register_blueprint(pages)
    register_description(app)
    register_metrics(app, database)
    app.after_request(harden)
    return app
