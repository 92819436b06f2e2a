"""The metrics and logs of a running stack, and whether dashboard and alerts name metrics that exist."""

import gzip
import json
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import NamedTuple

import httpx
import pytest
import yaml
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from prometheus_client.parser import text_string_to_metric_families

import deploy
from deploy.embedded.program import find_free_port
from tests import images
from tests.journey.stack import RunningStack, running_stack
from tests.waiting import wait_until

MONITORING = Path(deploy.__file__).parent / "monitoring"
REQUEST_ID = "5c" * 16


class Received(NamedTuple):
    """What an OpenTelemetry collector at this port has received: spans, each with its service."""

    port: int
    spans: list[tuple[str, Span]]


@pytest.fixture(scope="module")
def received() -> Iterator[Received]:
    spans = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            body = gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body
            for group in ExportTraceServiceRequest.FromString(body).resource_spans:
                (service,) = (a.value.string_value for a in group.resource.attributes if a.key == "service.name")
                spans.extend((service, span) for scope in group.scope_spans for span in scope.spans)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield Received(server.server_port, spans)
        server.shutdown()


@pytest.fixture(scope="module")
def stack(received, tmp_path_factory) -> Iterator[RunningStack]:
    """A stack that has analysed one case, rejected one and refused one photograph."""
    variables = {
        "DERMQUEUE_LOG_FORMAT": "json",
        "DERMQUEUE_METRICS_PORT": str(find_free_port()),
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{received.port}",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    photographs = images.encode(images.lesion(), "JPEG"), next(iter(images.refused_when_decoded().values()))[0]
    with running_stack(tmp_path_factory.mktemp("stack") / "data", variables) as running:
        answers = [
            running.http.post(
                "/v1/cases", files={"image": ("lesion.jpg", photograph)}, headers={"X-Request-Id": REQUEST_ID}
            )
            for photograph in (*photographs, b"no photograph")
        ]
        running.finish([answer.json()["id"] for answer in answers[:2]])
        assert running.http.get("/readyz").status_code == 200
        yield running


def read_samples(stack: RunningStack) -> dict[str, list]:
    """Return the metrics of the API and the worker, by name."""
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
    """Return every expression of the dashboards and the alerts, with the panel or alert that it belongs to."""
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


def test_every_metric_that_dashboard_and_alerts_name_is_there_with_the_labels_that_they_ask_for(stack):
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


def test_the_metrics_of_the_apis_processes_are_one_sum(stack):
    with stack.client("admin_key") as admin:
        for _ in range(40):
            with stack.client("clinic_key") as somebody:  # a connection of its own, for whichever process takes it
                assert somebody.get("/v1/uploads").status_code == 405
        pages = [admin.get("/metrics").text for _ in range(3)]
    counts = [re.findall(r'requests_total{method="GET",route="none",status="405"} (\S+)', page) for page in pages]
    assert counts == [["40.0"]] * 3


def test_one_id_connects_the_request_and_the_worker_and_every_line_is_json(stack):
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


def test_a_trace_leads_from_the_request_to_the_stored_result(stack, received):
    def spans_of(service: str) -> list[Span]:
        return [span for name, span in list(received.spans) if name == service and span.trace_id.hex() == REQUEST_ID]

    wait_until(lambda: [span.name for span in spans_of("dermqueue-worker")].count("record") == 2)
    wait_until(lambda: [span.name for span in spans_of("dermqueue-api")].count("POST /v1/cases") == 3)
    posts = {span.span_id for span in spans_of("dermqueue-api") if span.name.startswith("POST")}
    inner = [span for span in spans_of("dermqueue-api") if span.span_id not in posts]
    assert sorted(span.name for span in inner) == ["commit", "commit", "store", "store"]
    assert {span.parent_span_id for span in inner} < posts
    by_case = {span.parent_span_id: [] for span in spans_of("dermqueue-worker")}
    for span in spans_of("dermqueue-worker"):
        by_case[span.parent_span_id].append(span.name)
    assert by_case.keys() < posts
    assert sorted(map(sorted, by_case.values()), key=len) == [
        ["claim", "decode", "fetch", "record"],  # the rejected one
        ["claim", "decode", "fetch", "forward", "record", "render", "store"],
    ]
