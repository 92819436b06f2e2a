"""What Flask alone would do: store the body in the same S3, or answer a constant.

`python -m tests.benchmarks.bare PORT`
"""

import sys

from flask import Flask, Response, request

from api.server import Server
from shared.settings import Settings, load_settings
from shared.storage import make_s3_client

CONSTANT = b'{"state": "succeeded", "padding": "' + b"x" * 1000 + b'"}'
"""As long as the answer of a finished case."""


def make_bare_app(settings: Settings) -> Flask:
    app = Flask(__name__)
    client = make_s3_client(settings, max_connections=settings.api_threads)

    @app.post("/store")
    def store() -> tuple[dict, int]:
        image = request.files["image"]
        key = f"bare/{request.headers['Idempotency-Key']}"
        client.put_object(
            Bucket=settings.s3_bucket,
            Key=key,
            Body=image.read(),
            ContentType=image.mimetype,
            ServerSideEncryption=settings.s3_encryption,
        )
        return {"key": key}, 202

    @app.get("/constant")
    def constant() -> Response:
        return Response(CONSTANT, mimetype="application/json")

    @app.get("/healthz")
    def healthz() -> dict:
        return {"status": "alive"}

    return app


class _BareServer(Server):
    def load(self) -> Flask:
        return make_bare_app(self._settings)


if __name__ == "__main__":
    _BareServer(load_settings(), "127.0.0.1", int(sys.argv[1])).run()
