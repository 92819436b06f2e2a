"""Half precision: only where a machine is faster with it."""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch

from worker.training import precision
from worker.training.precision import bfloat16_pays, half_precision, time_convolution


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    bfloat16_pays.cache_clear()
    yield
    bfloat16_pays.cache_clear()


@pytest.mark.parametrize(("half_s", "pays"), [(1.0, True), (2.0, False), (3.0, False)])
@pytest.mark.parametrize("instructions", ["avx512_bf16", "amx_bf16"])
def test_a_cpu_with_instructions_for_it_is_timed_with_and_without(monkeypatch, instructions, half_s, pays):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {instructions: True})
    monkeypatch.setattr(precision, "time_convolution", {torch.bfloat16: half_s, torch.float32: 2.0}.get)
    assert bfloat16_pays("cpu") is pays


def test_a_cpu_without_them_is_not_timed(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False})
    monkeypatch.setattr(precision, "time_convolution", None)
    assert not bfloat16_pays("cpu")


@pytest.mark.parametrize(("generation", "pays"), [(7, False), (8, True)], ids=["Turing", "Ampere"])
def test_a_gpu_that_only_emulates_it_computes_in_float32(monkeypatch, generation, pays):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(major=generation))
    assert bfloat16_pays("cuda") is pays


@pytest.mark.parametrize("pays", [True, False])
def test_what_is_computed_in_it_is_bfloat16_where_it_pays_but_for_the_light_network(monkeypatch, pays):
    monkeypatch.setattr(precision, "bfloat16_pays", lambda device_type: pays)
    some = torch.ones(2, 2)
    with half_precision(torch.device("cpu"), learning="resnet50-v1"):
        assert (some @ some).dtype == (torch.bfloat16 if pays else torch.float32)
    with half_precision(torch.device("cpu"), learning="efficientnet-lite0"):
        assert (some @ some).dtype == torch.float32


@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_convolution_is_timed_where_nothing_else_has_gradients(dtype):
    assert 0 < time_convolution(dtype) < 60
