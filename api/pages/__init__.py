"""The web pages at `/app`. A page calls the views of the routes under `/v1` and puts their answers into words."""

from api import words
from api.pages import admin, case, clinic, portable, reviewer, sign_in
from api.pages.frame import pages

for say in (
    words.say_state,
    words.say_counted,
    words.say_class,
    words.say_decision,
    words.say_verdict,
    words.say_problem,
    words.say_warning,
    words.say_plausible,
    words.percent,
    words.tell_apart,
    words.moment,
    words.size_in_words,
):
    pages.app_template_filter()(say)
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
