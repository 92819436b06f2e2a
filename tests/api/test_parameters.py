"""The schemas of headers and queries."""

from api.parameters import Parameters
from api.schemas import ListQuery, ReadHeader


def test_the_schema_that_is_asked_for_at_every_request_is_made_once_and_is_each_ones_own():
    assert ReadHeader.model_json_schema() is ReadHeader.model_json_schema()
    assert "Prefer" in ReadHeader.model_json_schema()["properties"]
    assert "cursor" in ListQuery.model_json_schema()["properties"]


def test_the_description_gets_a_schema_in_the_form_that_it_asks_for():
    class Referring(Parameters):
        nested: ListQuery

    assert Referring.model_json_schema(ref_template="#/elsewhere/{model}")["properties"]["nested"] == {
        "$ref": "#/elsewhere/ListQuery"
    }
