"""What a worker measures, and the port that shows it."""

import socket
import urllib.request

import pytest
import torch
from prometheus_client import REGISTRY

from deploy.embedded.program import find_free_port
from shared.errors import Unavailable
from tests import images
from tests.factories import add_photograph
from tests.worker.networks import tiny_model
from tests.worker.steps import jpeg, lapse_leases
from worker import metrics
from worker.counters import STAGES
from worker.heartbeat import Meter
from worker.metrics import measure_memory, serve_metrics


class Figures:
    """How much metrics have risen since this was made."""

    def __init__(self):
        self._before = self._read()

    def risen(self, name: str, **labels: str) -> float:
        key = name, *sorted(labels.items())
        return self._read().get(key, 0) - self._before.get(key, 0)

    @staticmethod
    def _read() -> dict[tuple, float]:
        return {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in REGISTRY.collect()
            for sample in family.samples
        }


@pytest.fixture
def figures() -> Figures:
    return Figures()


def test_every_stage_of_a_batch_is_measured(make_triage, database, store, clinic_id, figures):
    for _ in range(3):
        add_photograph(database, store, clinic_id, jpeg())
    make_triage().analyze_waiting()
    times = {stage: figures.risen("dermqueue_stage_seconds_count", stage=stage) for stage in STAGES}
    assert times == {"claim": 2, "fetch": 3, "decode": 3, "forward": 1, "render": 3, "store": 3, "record": 1}
    assert all(figures.risen("dermqueue_stage_seconds_sum", stage=stage) > 0 for stage in STAGES)
    assert figures.risen("dermqueue_batch_cases_sum") == 3
    assert figures.risen("dermqueue_cases_ended_total", state="succeeded", code="") == 3


def test_a_rejected_case_is_counted_by_its_code(make_triage, database, store, clinic_id, figures):
    data, code = next(iter(images.refused_when_decoded().values()))
    add_photograph(database, store, clinic_id, data)
    make_triage().analyze_waiting()
    assert figures.risen("dermqueue_cases_ended_total", state="rejected", code=code) == 1


def test_postponed_cases_are_counted_by_reason(make_triage, database, store, clinic_id, figures):
    class Away:
        def get(self, key: str) -> bytes:
            raise Unavailable("storage_unavailable", "The object store cannot be reached right now.")

    add_photograph(database, store, clinic_id, jpeg())
    make_triage(store=Away()).analyze_waiting()
    assert figures.risen("dermqueue_retries_total", reason="unavailable") == 1


def test_a_case_whose_worker_vanishes_is_counted_each_time_and_at_last_as_failed(
    make_triage, database, store, clinic_id, figures
):
    triage = make_triage()
    add_photograph(database, store, clinic_id, jpeg())
    for _ in range(3):
        assert triage._claim(may_be_alone=True)
        lapse_leases(database)
    triage.sweep()
    assert figures.risen("dermqueue_retries_total", reason="lease_expired") == 2
    assert figures.risen("dermqueue_cases_ended_total", state="failed", code="analysis_interrupted") == 1


def test_a_late_result_is_counted_only_as_late(make_triage, database, store, clinic_id, figures):
    triage = make_triage()
    add_photograph(database, store, clinic_id, jpeg())
    leases = triage._claim(may_be_alone=False)
    lapse_leases(database)
    assert triage._claim(may_be_alone=True)
    triage._finish(leases)
    assert figures.risen("dermqueue_late_results_total") == 1
    assert figures.risen("dermqueue_cases_ended_total", state="succeeded", code="") == 0


def test_workers_on_one_machine_take_one_port_each(monkeypatch):
    monkeypatch.setattr(metrics, "_PORTS_TRIED", 1)
    first = find_free_port((0, 1))
    with socket.create_server(("127.0.0.1", first)):
        served = [serve(first)]
        with pytest.raises(OSError, match="in use"):
            serve(first)
    assert served == [first + 1]
    with urllib.request.urlopen(f"http://127.0.0.1:{served[0]}/metrics", timeout=5) as page:
        text = page.read().decode()
    assert 'dermqueue_worker_info{device="cpu",model="tiny",version="1"} 1.0' in text
    assert 'dermqueue_device_memory_bytes{kind="held"}' in text


def serve(first_port: int) -> int:
    return serve_metrics("127.0.0.1", first_port, tiny_model(), torch.device("cpu"), Meter())


def test_a_processors_memory_is_the_machines():
    memory = measure_memory(torch.device("cpu"))
    assert memory["total"] > memory["used"] > memory["held"] > 10 * 2**20


def test_a_gpus_memory_is_the_devices_and_what_torch_keeps_of_it_is_held(monkeypatch):
    device = torch.device("cuda", 1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda of: {device: (6, 16)}[of])
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda of: {device: 3}[of])
    assert measure_memory(device) == {"total": 16, "used": 10, "held": 3}
