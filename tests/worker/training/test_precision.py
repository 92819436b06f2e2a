"""Half precision: only where a machine is faster with it."""

from types import SimpleNamespace

import pytest
import torch

from worker.training import precision
from worker.training.precision import bfloat16_pays, mixed_precision


@pytest.mark.parametrize(
    ("instructions", "pays"),
    [
        ({"cpu_name": "Intel(R) Xeon(R)", "amx_bf16": True, "avx512_bf16": True}, True),
        ({"cpu_name": "Intel(R) Xeon(R)", "amx_bf16": False, "avx512_bf16": True}, False),
        ({"cpu_name": "AMD EPYC", "amx_bf16": False, "avx512_bf16": True}, True),
        ({"cpu_name": "AMD EPYC", "amx_bf16": False, "avx512_bf16": False}, False),
        ({}, False),
    ],
    ids=["tiles", "a Xeon without", "AMD from Zen 4 on", "AMD before", "another make"],
)
def test_a_cpu_computes_in_it_only_where_that_is_faster(monkeypatch, instructions, pays):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions)
    assert bfloat16_pays("cpu") is pays


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
    with mixed_precision(torch.device("cpu"), training="resnet50-v1"):
        assert (some @ some).dtype == (torch.bfloat16 if pays else torch.float32)
    with mixed_precision(torch.device("cpu"), training="efficientnet-lite0"):
        assert (some @ some).dtype == torch.float32
