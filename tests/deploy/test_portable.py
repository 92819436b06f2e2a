"""`dermqueue export`, and the program on its documentation page that runs the file without our code."""

import json
import re
import subprocess
import sys
from pathlib import Path

import onnxruntime
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from deploy.cli import main
from deploy.commands.demo import SAMPLES
from shared.bundle import SHIPPED_BUNDLES, read_manifest
from shared.photograph import decode_photograph
from tests import images
from tests.deploy.pages import PAGES
from tests.worker.training.bundles import write_light_bundle
from worker.frame import DECODED_SIDE, shrink_frame, squash, squash_frame
from worker.model import load_model

(PROGRAM,) = re.findall(r"```python\n(.*?)```", (PAGES / "portable.md").read_text(), re.DOTALL)


def run_program(*arguments: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-I", "-c", PROGRAM, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


def test_the_program_on_the_page_reads_a_photograph_as_the_server_does(tmp_path):
    bundle, file = write_light_bundle(tmp_path / "light", side=64), tmp_path / "light.onnx"
    done = CliRunner().invoke(main, ["export", "--bundle", str(bundle), "--out", str(file)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "not a diagnosis" in done.output
    photograph = sorted(SAMPLES.glob("*.jpg"))[0]
    said = run_program(file, photograph)
    assert "not a diagnosis" in said.stderr
    model = load_model(bundle, torch.device("cpu"), "torch")
    pixels = shrink_frame(squash_frame(decode_photograph(photograph.read_bytes(), min_side=128)), 64)
    expected = dict(zip(model.manifest.labels, model.read(pixels[None]).probabilities[0], strict=True))
    assert json.loads(said.stdout) == pytest.approx(expected, abs=0.02)


def test_the_program_on_the_page_follows_a_photographs_colour_profile(tmp_path):
    portable, photograph = SHIPPED_BUNDLES / "portable", tmp_path / "profiled.jpg"
    with Image.open(sorted(SAMPLES.glob("*.jpg"))[0]) as sample:
        small = sample.resize((400, 300))  # larger ones are first reduced by the server
    photograph.write_bytes(images.encode(small, "JPEG", icc_profile=images.swapped_profile()))
    said = run_program(portable / "portable.onnx", photograph)
    decoded = decode_photograph(photograph.read_bytes(), DECODED_SIDE)
    pixels = squash(decoded, read_manifest(portable).preprocessing)
    session = onnxruntime.InferenceSession(portable / "portable.onnx")
    (expected,) = session.run(["probabilities"], {"pixels": pixels[None]})
    assert [*json.loads(said.stdout).values()] == pytest.approx(expected[0].tolist(), abs=0.001)


def test_an_export_to_nowhere_is_refused(tmp_path):
    done = CliRunner().invoke(main, ["export", "--bundle", str(tmp_path)])
    assert (done.exit_code, "--out FILE, --web FOLDER" in done.output) == (2, True)


def test_a_missing_bundle_is_refused(tmp_path):
    done = CliRunner().invoke(main, ["export", "--bundle", str(tmp_path), "--out", str(tmp_path / "a.onnx")])
    assert done.exit_code == 1
    assert "bundle_missing" in done.output


def test_no_page_is_made_from_a_bundle_that_has_hairs_painted_over(tmp_path):
    bundle = write_light_bundle(tmp_path / "light", side=64, cleaned=True)
    done = CliRunner().invoke(main, ["export", "--bundle", str(bundle), "--web", str(tmp_path / "web")])
    assert done.exit_code == 1
    assert "web_unfit" in done.output
    assert not (tmp_path / "web").exists()
