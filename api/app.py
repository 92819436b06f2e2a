"""The API process's composition root."""

from importlib.metadata import version

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
from api.metrics import register_metrics
from api.observation import register_observation
from api.pages import pages
from api.problems import Problem, raise_invalid_field, register_problems
from api.services import EXTENSION, open_services
from shared.settings import Settings

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
    app.extensions[EXTENSION] = open_services(settings)
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
    register_metrics(app)
    app.after_request(harden)
    return app
