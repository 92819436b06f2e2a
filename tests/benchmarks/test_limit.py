"""The limit runs the same network on the same files, whatever its setting."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.benchmarks import limit_script
from tests.benchmarks.heatmap import WithoutMaps
from tests.benchmarks.limit import settings_for
from tests.benchmarks.piles import FULL, repeat
from tests.worker.networks import SIDE, TinyNetwork, tiny_manifest
from worker.runtime import TorchRuntime, translate

PHOTOGRAPHS = repeat(FULL, limit_script.BATCH + 1)


@pytest.fixture(scope="module")
def network() -> WithoutMaps:
    return WithoutMaps(TinyNetwork(), tiny_manifest().preprocessing)


@pytest.fixture(scope="module")
def model(network, tmp_path_factory) -> str:
    file = tmp_path_factory.mktemp("limit") / "tiny.onnx"
    file.write_bytes(translate(network, SIDE, ("logits",)))
    return str(file)


@pytest.mark.parametrize(("decoders", "lanes"), [(1, 1), (3, 2)])
def test_every_photograph_is_classified_by_the_network_in_the_order_given(network, model, decoders, lanes):
    paths = [str(photograph) for photograph in PHOTOGRAPHS]
    logits = limit_script.classify(limit_script.open_session(model, 1), paths, SIDE, decoders, lanes)
    expected, *_ = TorchRuntime(network, torch.device("cpu"))(np.stack([_reduced(file) for file in PHOTOGRAPHS]))
    assert np.allclose(logits, expected, atol=1e-5)


def _reduced(photograph: Path) -> np.ndarray:
    image = Image.open(io.BytesIO(photograph.read_bytes()))
    image.draft("RGB", (SIDE, SIDE))
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def test_the_process_answers_each_line_with_the_seconds_that_it_took(model):
    asked = {"photographs": [str(FULL[0])], "decoders": 1, "lanes": 1, "threads": 1}
    command = [sys.executable, limit_script.__file__, model, str(SIDE)]
    answered = subprocess.run(command, input=2 * (json.dumps(asked) + "\n"), capture_output=True, text=True, check=True)
    assert [float(line) > 0 for line in answered.stdout.splitlines()] == [True, True]


@pytest.mark.parametrize("cores", [1, 2, 16])
def test_settings_are_tried_that_use_every_core_for_one_batch_or_a_core_for_each(cores):
    settings = settings_for(cores)
    assert len(set(settings)) == len(settings)
    assert {setting.lanes * setting.threads for setting in settings} == {cores}
