"""The page that analyses a photograph on the device; the same files, written to a folder, work on any file server.

All its files lie under one address, so that a service worker can cache them and the page opens offline. None depends on
who is signed in.
"""

import hashlib
import json
import shutil
from functools import lru_cache
from mimetypes import guess_type
from pathlib import Path

from flask import Response, request

from api.auth import allow
from api.pages.frame import POLICY, guarded_pages
from shared.bundle import SHIPPED_BUNDLES
from shared.domain import Role
from shared.errors import NotFound

MODEL = "portable.onnx"
SHIPPED_MODEL = SHIPPED_BUNDLES / "portable" / MODEL
_PAGE = "index.html"
_SERVICE_WORKER = "service-worker.js"
_OWN = Path(__file__).parent / "on_device"
_OF_ALL_PAGES = Path(__file__).parent / "static"
_POLICIES = {
    _PAGE: POLICY.replace("script-src 'self'", "script-src 'self' 'wasm-unsafe-eval'"),
    _SERVICE_WORKER: "default-src 'none'; connect-src 'self'",
}

portable = guarded_pages("portable")


@portable.app_context_processor
def _link_if_it_can_read() -> dict[str, bool]:
    return {"reads_on_device": SHIPPED_MODEL.exists()}


@portable.get("/portable/")
@allow(Role.CLINIC, Role.REVIEWER)
def show_portable() -> Response:
    return send_part(_PAGE)


@portable.get("/portable/<path:part>")
@allow(Role.CLINIC, Role.REVIEWER)
def send_part(part: str) -> Response:
    parts = list_parts(SHIPPED_MODEL)
    if part not in parts:
        raise NotFound("page_not_found", "There is no page at this address.")
    content = write_service_worker(parts) if part == _SERVICE_WORKER else parts[part].read_bytes()
    response = Response(content, mimetype=guess_type(part)[0] or "application/octet-stream")
    response.headers["Cache-Control"] = "private, no-cache"
    if part in _POLICIES:
        response.headers["Content-Security-Policy"] = _POLICIES[part]
    response.add_etag()
    return response.make_conditional(request)


def list_parts(model: Path) -> dict[str, Path]:
    """Return the page's files by their addresses relative to the page; the model only if it exists."""
    parts = {file.relative_to(_OWN).as_posix(): file for file in _OWN.rglob("*") if file.is_file()}
    parts |= {name: _OF_ALL_PAGES / name for name in ("pages.css", "parts.css", "icon.svg")}
    return parts | ({MODEL: model} if model.exists() else {})


def write_service_worker(parts: dict[str, Path]) -> str:
    """Return the service worker that caches these files; it differs whenever any file's content does."""
    digests = {name: _digest(file, file.stat().st_mtime_ns) for name, file in sorted(parts.items())}
    version = hashlib.sha256(json.dumps(digests).encode()).hexdigest()
    del digests[_SERVICE_WORKER]  # it is sent with these lines before it, and browsers keep it themselves
    kept = json.dumps({"./": digests[_PAGE], **digests})
    return f'const VERSION = "{version}";\nconst PARTS = {kept};\n{parts[_SERVICE_WORKER].read_text()}'


def write_folder(folder: Path, model: Path) -> None:
    """Write the page with this model to a folder that any file server can serve."""
    parts = list_parts(model)
    for name, file in parts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, folder / name)
    (folder / _SERVICE_WORKER).write_text(write_service_worker(parts))


@lru_cache(maxsize=64)
def _digest(file: Path, _changed_ns: int) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
