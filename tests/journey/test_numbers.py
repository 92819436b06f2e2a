"""The figures and logs of a running stack, and whether dashboard and alerts ask for figures that there are."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

import deploy
from deploy.embedded.program import find_free_port
from tests import images
from tests.journey.stack import RunningStack

MONITORING = Path(deploy.__file__).parent / "monitoring"
REQUEST_ID = "5c" * 16


@pytest.fixture(scope="module")
def stack(tmp_path_factory) -> Iterator[RunningStack]:
    """A stack that has analysed one case, rejected one and refused one photograph."""
    variables = {"DERMQUEUE_LOG_FORMAT": "json", "DERMQUEUE_METRICS_PORT": str(find_free_port())}
    running = RunningStack(tmp_path_factory.mktemp("stack") / "data", variables)
    photographs = images.encode(images.lesion(), "JPEG"), next(iter(images.refused_when_decoded().values()))[0]
    answers = [
        running.http.post(
            "/v1/cases", files={"image": ("lesion.jpg", photograph)}, headers={"X-Request-Id": REQUEST_ID}
        )
        for photograph in (*photographs, b"no photograph")
    ]
    running.finish([answer.json()["id"] for answer in answers[:2]])
    yield running
    assert running.stop() == 0, running.output.read_text()


def read_samples(stack: RunningStack) -> dict[str, list]:
    """Return what the API and the worker show, by name."""
    with stack.client("admin_key") as admin:
        pages = [admin.get("/metrics").text]
    port = stack.variables["DERMQUEUE_METRICS_PORT"]
    pages.append(httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text)
    samples = {}
    for page in pages:
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                samples.setdefault(sample.name, []).append(sample)
    return samples


def list_expressions() -> list[tuple[str, str]]:
    """Return every expression of the dashboards and the alerts, with what it stands in."""
    rules = [
        (rule["alert"], rule["expr"])
        for group in yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
        for rule in group["rules"]
    ]
    panels = [
        (panel["title"], target["expr"])
        for file in (MONITORING / "grafana").glob("*.json")
        for panel in json.loads(file.read_text())["panels"]
        for target in panel["targets"]
    ]
    assert len(rules) > 5
    assert len(panels) > 10
    return rules + panels


def test_every_figure_that_dashboard_and_alerts_name_is_there_with_the_labels_that_they_ask_for(stack):
    samples, unknown = read_samples(stack), []
    for where, expression in list_expressions():
        for name, labels in re.findall(r"(dermqueue_\w+)(?:{(.*?)})?", expression):
            wanted = set(re.findall(r'(\w+)="(.*?)"', labels))
            matched = set(re.findall(r"(\w+)(?:=~|!)", labels))
            if not any(
                wanted <= set(sample.labels.items()) and matched <= sample.labels.keys()
                for sample in samples.get(name, [])
            ):
                unknown.append((where, name, wanted))
    assert unknown == []


def test_the_figures_of_the_apis_processes_are_one_sum(stack):
    with stack.client("admin_key") as admin:
        for _ in range(40):
            with stack.client("clinic_key") as somebody:  # a connection of its own, for whichever process takes it
                assert somebody.get("/v1/uploads").status_code == 405
        pages = [admin.get("/metrics").text for _ in range(3)]
    counts = [re.findall(r'requests_total{method="GET",route="none",status="405"} (\S+)', page) for page in pages]
    assert counts == [["40.0"]] * 3


def test_one_id_leads_from_the_request_to_the_worker_and_every_line_is_json(stack):
    logs = {name: (stack.data_dir / "logs" / f"{name}.log").read_text() for name in ("api", "worker", "beat")}
    foreign = [line for log in logs.values() for line in log.splitlines() if not line.startswith("{")]
    assert foreign == []
    lines = {name: [json.loads(line) for line in log.splitlines()] for name, log in logs.items()}
    events = {
        name: [line["event"] for line in lines[name] if line.get("request_id") == REQUEST_ID and "event" in line]
        for name in ("api", "worker")
    }
    assert events["api"] == ["case_accepted", "request_answered"] * 2 + ["request_answered"]
    assert events["worker"] == ["case_ended"] * 2
