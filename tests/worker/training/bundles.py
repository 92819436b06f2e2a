"""Whole bundles that load, with a network that has learnt nothing."""

import hashlib
from pathlib import Path

import torch
from safetensors.torch import save_file

from shared.bundle import CARD_NAME, MANIFEST_NAME, WEIGHTS_NAME
from tests.worker.networks import tiny_manifest
from worker.network import LesionNetwork


def write_random_bundle(folder: Path, seed: int = 0, **changes) -> Path:
    """Write a bundle of a random ResNet-50 that reads 32 px."""
    folder.mkdir(parents=True)
    torch.manual_seed(seed)
    weights = {
        key: value.half() if value.is_floating_point() else value for key, value in LesionNetwork().state_dict().items()
    }
    save_file(weights, folder / WEIGHTS_NAME)
    digest = hashlib.sha256((folder / WEIGHTS_NAME).read_bytes()).hexdigest()
    (folder / MANIFEST_NAME).write_text(tiny_manifest(weights_sha256=digest, **changes).model_dump_json())
    (folder / CARD_NAME).write_text("# tiny\n\nIt has learnt nothing.\n")
    return folder
