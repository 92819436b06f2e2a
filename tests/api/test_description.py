"""The interface's description: the OpenAPI document, and the page to read it on."""

import re
from urllib.parse import urljoin

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator, validate

PAGES = {"/", "/docs", "/docs/swagger", "/docs/swagger/{filename}", "/docs/oauth2-redirect.html", "/openapi.json"}
NOT_FOR_CLINICS = {"/metrics"}

# Nothing here reaches the database, so one kind is enough.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def document(client) -> dict:
    answer = client.get("/openapi.json")
    assert (answer.status_code, answer.mimetype) == (200, "application/json")
    return answer.json


@pytest.fixture
def operations(document) -> dict[tuple[str, str], dict]:
    """The document's operations by method and path."""
    return {
        (method, path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def path_of(rule) -> str:
    return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)


def test_the_description_is_valid_openapi_3_1(document):
    assert document["openapi"].startswith("3.1.")
    validate(document, cls=OpenAPIV31SpecValidator)


def test_every_route_is_described_and_every_described_one_is_there(app, operations):
    routes = {
        (method.lower(), path_of(rule))
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    described = {
        route for route in routes if route[1] not in PAGES | NOT_FOR_CLINICS and not route[1].startswith("/app")
    }
    assert described == set(operations)
    assert len(operations) >= 10


def test_every_operation_says_in_plain_words_what_it_does(document, operations):
    assert {tag["name"] for tag in document["tags"]} == {name for o in operations.values() for name in o["tags"]}
    assert all(tag["description"] for tag in document["tags"])
    assert len({operation["operationId"] for operation in operations.values()}) == len(operations)
    for operation in operations.values():
        assert operation["summary"].endswith(".")
        assert "<br" not in operation["summary"] + operation.get("description", "")
        assert all(parameter["description"] for parameter in operation.get("parameters", []))


def test_operations_under_v1_need_a_bearer_key_and_the_others_none(document, operations):
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    for (_, path), operation in operations.items():
        expected = [{"bearer": []}] if path.startswith("/v1/") else None
        assert operation.get("security") == expected


def test_every_error_is_described_as_a_problem(operations):
    for (_, path), operation in operations.items():
        errors = {status: answer for status, answer in operation["responses"].items() if status >= "400"}
        if path == "/readyz":  # its 503 says what is away
            assert list(errors) == ["503"]
            continue
        assert ({"401", "403", "429", "503"} <= set(errors)) == path.startswith("/v1/")
        assert ("413" in errors) == ("requestBody" in operation)
        for status, answer in errors.items():
            (media_type, content) = next(iter(answer["content"].items()))
            assert (media_type, len(answer["content"])) == ("application/problem+json", 1)
            assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
            assert content["example"]["status"] == int(status)
            headers = {"401": {"WWW-Authenticate"}, "429": {"Retry-After"}, "503": {"Retry-After"}}
            assert set(answer.get("headers", {})) == headers.get(status, set())


def test_every_list_with_pages_is_described_with_the_link_to_the_next_one(operations):
    paged = [
        operation
        for operation in operations.values()
        if any(parameter["name"] == "cursor" for parameter in operation.get("parameters", []))
    ]
    assert len(paged) >= 3
    assert all("Link" in operation["responses"]["200"]["headers"] for operation in paged)


def body_of(document: dict, operation: dict, media_type: str) -> dict:
    """Return the schema of a request's body."""
    reference = operation["requestBody"]["content"][media_type]["schema"]["$ref"]
    return document["components"]["schemas"][reference.rpartition("/")[2]]


def test_a_photograph_is_described_as_a_form_with_a_file_or_as_json_that_names_an_upload(document, operations):
    operation = operations["post", "/v1/cases"]
    assert list(operation["requestBody"]["content"]) == ["multipart/form-data", "application/json"]
    form, json = (body_of(document, operation, kind) for kind in operation["requestBody"]["content"])
    assert form["properties"]["image"] == {
        "title": "Image",
        "type": "string",
        "format": "binary",
        "description": "JPEG, PNG or WebP of at most 50 megapixels (25 in a WebP or a progressive JPEG); the shorter"
        " side at least 64 px, the longer side at most 10 times as long",
    }
    assert (form["required"], json["required"]) == (["image"], ["upload_id"])
    assert json["properties"]["upload_id"]["format"] == "uuid"
    assert form["properties"]["site"]["examples"] == json["properties"]["site"]["examples"] == ["left calf"]
    examples = {status: next(iter(answer["content"].values())) for status, answer in operation["responses"].items()}
    assert examples["404"]["example"]["code"] == "upload_not_found"
    assert form["properties"].keys() - {"image"} == json["properties"].keys() - {"upload_id"}
    assert [parameter["name"] for parameter in operation["parameters"]] == ["Idempotency-Key"]
    assert set(operation["responses"]["202"]["headers"]) == {"Location", "Retry-After"}
    assert {"404", "408", "409", "413", "422", "429"} <= set(operation["responses"])
    assert '"null"' not in str(form).replace("'", '"')


def test_a_submission_is_described_as_a_form_with_many_files_or_an_archive(document, operations):
    operation = operations["post", "/v1/submissions"]
    form = body_of(document, operation, "multipart/form-data")
    binary = {"type": "string", "format": "binary"}
    assert form["properties"]["image"]["items"] == binary
    assert binary.items() <= form["properties"]["archive"].items()
    assert [parameter["name"] for parameter in operation["parameters"]] == ["Idempotency-Key"]
    assert set(operation["responses"]["202"]["headers"]) == {"Location", "Retry-After"}
    assert {"413", "422", "429"} <= set(operation["responses"])


def test_an_upload_is_described_as_json_both_ways(document, operations):
    operation = operations["post", "/v1/uploads"]
    assert body_of(document, operation, "application/json")["required"] == ["media_type"]
    assert list(operation["responses"]["201"]["content"]) == ["application/json"]
    assert {"413", "415", "429"} <= set(operation["responses"])


def test_every_field_that_is_referred_to_is_there(document):
    names = set(re.findall(r"#/components/schemas/(\w+)", str(document)))
    assert names <= document["components"]["schemas"].keys()


def test_the_states_of_a_case_are_listed(document):
    states = ["queued", "running", "succeeded", "rejected", "failed", "cancelled"]
    assert document["components"]["schemas"]["State"]["enum"] == states


@pytest.mark.parametrize("start", ["/", "/docs"])
def test_the_documentation_works_without_any_other_server(client, start):
    page = client.get(start, follow_redirects=True)
    assert (page.status_code, page.mimetype) == (200, "text/html")
    assert "<title>DermQueue</title>" in page.text
    assert 'name="viewport"' in page.text
    needed = re.findall(r"""<(?:script|link|img)\b[^>]*\b(?:src|href)="([^"]+)""", page.text)
    assert len(needed) >= 4
    for address in needed:
        assert "//" not in address
        answer = client.get(urljoin(page.request.path, address))
        assert answer.status_code == 200, address
        assert answer.data
        answer.close()
    assert client.get(re.search(r'new URL\("([^"]+)"', page.text)[1]).json["openapi"]


def test_the_pages_stylesheet_fetches_nothing_from_elsewhere(client):
    with client.get("/docs/swagger/css/swagger-ui.css") as stylesheet:
        assert stylesheet.status_code == 200
        assert not re.search(r"@import|url\(\s*[\"']?(?:https?:)?//", stylesheet.text)
