"""`dermqueue export`, and the program on its documentation page that runs the file without our code."""

import json
import re
import subprocess
import sys

import pytest
import torch
from click.testing import CliRunner

from deploy.cli import main
from deploy.commands.demo import SAMPLES
from shared.photograph import decode_photograph
from tests.deploy.pages import PAGES
from tests.worker.training.bundles import write_light_bundle
from worker.frame import shrink_frame, squash_frame
from worker.model import load_model

(PROGRAM,) = re.findall(r"```python\n(.*?)```", (PAGES / "portable.md").read_text(), re.DOTALL)


def test_the_program_on_the_page_reads_a_photograph_as_the_server_does(tmp_path):
    bundle, file = write_light_bundle(tmp_path / "light", side=64), tmp_path / "light.onnx"
    done = CliRunner().invoke(main, ["export", "--bundle", str(bundle), "--out", str(file)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "not a diagnosis" in done.output
    photograph = sorted(SAMPLES.glob("*.jpg"))[0]
    command = [sys.executable, "-I", "-c", PROGRAM, file, photograph]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True)
    assert "not a diagnosis" in said.stderr
    model = load_model(bundle, torch.device("cpu"), "torch")
    pixels = shrink_frame(squash_frame(decode_photograph(photograph.read_bytes(), min_side=128)), 64)
    expected = dict(zip(model.manifest.labels, model.read(pixels[None]).probabilities[0], strict=True))
    assert json.loads(said.stdout) == pytest.approx(expected, abs=0.02)


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
