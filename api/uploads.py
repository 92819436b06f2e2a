"""The route for uploads: a clinic sends a photograph straight to the object store, bypassing the API."""

from datetime import timedelta
from uuid import uuid4

from flask import Response

from api.answers import answer
from api.auth import allow, caller
from api.blueprints import guarded_blueprint
from api.bodies import reads_body
from api.problems import problem_responses
from api.services import services
from api.submission_schemas import UploadIn, UploadOut
from shared.database import read_clock
from shared.domain import Role
from shared.object_keys import upload_key
from shared.store import uploads

VALID_FOR = timedelta(minutes=15)

blueprint = guarded_blueprint("uploads", "/v1/uploads", "Photographs that go straight to the object store.")


@blueprint.post("", responses={201: UploadOut, **problem_responses(400, 413, content_type_unsupported=415)})
@allow(Role.CLINIC)
@reads_body(json=UploadIn)
def open_upload(sent: UploadIn) -> Response:
    """Get an address to which to send one photograph.

    Send a form (`multipart/form-data`) with all `fields`, and last the file as `file`, to `url`. Then name the upload
    in `POST /v1/cases`, where everything is checked as if the photograph came with that request. An open upload counts
    as a waiting case.
    """
    to, clinic_id, upload_id = services(), caller().clinic_id, uuid4()
    key, max_bytes = upload_key(clinic_id, upload_id), to.settings.max_upload_bytes
    url, fields = to.store.presign_post(key, sent.media_type, max_bytes, int(VALID_FOR.total_seconds()))
    with to.database.writing() as session:
        now = read_clock(session)
        to.backlog.check_room(session, clinic_id, reserved=uploads.count_open(session, clinic_id, now))
        upload = uploads.Upload(upload_id, clinic_id, key, sent.sha256, now + VALID_FOR)
        uploads.add_upload(session, upload, now)
    place = UploadOut(upload_id=upload_id, url=url, fields=fields, expires_at=upload.expires_at, max_bytes=max_bytes)
    return answer(place, 201)
