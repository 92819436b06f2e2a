"""The web pages at `/app`. What they show and do, the routes under `/v1` answer: a page asks these and words it."""

from api.pages import admin, case, clinic, portable, reviewer, sign_in, words
from api.pages.frame import pages

words.register(pages)
for group in (
    sign_in.signing_in,
    sign_in.home,
    clinic.clinic,
    case.case,
    portable.portable,
    reviewer.reviewer,
    admin.admin,
):
    pages.register_blueprint(group)
