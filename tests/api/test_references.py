"""References with letters that Unicode writes in two ways: Macs name files otherwise than people type."""

from unicodedata import normalize

from sqlalchemy import update

from shared.tables import CaseRow
from tests.api.calls import File, read_list
from tests.api.ways_in import filled, send_many, submit_upload


def test_a_reference_is_found_whether_letters_and_accents_come_in_one_or_as_a_mac_sends_them(clinic):
    name = "Läsion Müller.jpg"
    as_on_a_mac = normalize("NFD", name)
    assert as_on_a_mac != name
    (item,) = send_many(clinic, [File(name=as_on_a_mac)]).json["items"]
    assert item["name"] == as_on_a_mac
    sent = [
        item["case_id"],
        clinic.submit(reference=as_on_a_mac).json["id"],
        submit_upload(clinic, filled(clinic), reference=as_on_a_mac).json["id"],
    ]
    for asked in (name, as_on_a_mac):
        found = read_list(clinic.get("/v1/cases", query_string={"reference": asked}))
        assert [(case["id"], case["reference"]) for case in found] == [(case_id, name) for case_id in reversed(sent)]


def test_a_reference_that_the_version_before_kept_as_a_mac_sent_it_is_found(clinic, database):
    clinic.submit()
    as_on_a_mac = normalize("NFD", "Müller")
    with database.writing() as session:
        session.execute(update(CaseRow).values(reference=as_on_a_mac))
    for asked in ("Müller", as_on_a_mac):
        assert len(read_list(clinic.get("/v1/cases", query_string={"reference": asked}))) == 1


def test_a_files_name_is_composed_before_it_is_cut_to_a_reference(clinic):
    name = "é" * 200
    sent = send_many(clinic, [File(name=normalize("NFD", name))]).json["items"][0]["case_id"]
    assert clinic.get(f"/v1/cases/{sent}").json["reference"] == name
