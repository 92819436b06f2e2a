"""Complete bundles that load, with an untrained network."""

import hashlib
from pathlib import Path

import torch
from safetensors.torch import save_file

from shared.bundle import CARD_NAME, MANIFEST_NAME, WEIGHTS_NAME, Preprocessing
from tests.worker.networks import tiny_manifest
from worker.network import LesionNetwork


def write_random_bundle(folder: Path, seed: int = 0, **changes) -> Path:
    """Write a bundle of a random ResNet-50 that reads 32 px."""
    torch.manual_seed(seed)
    return _write_bundle(LesionNetwork(), folder, **changes)


def write_light_bundle(folder: Path, side: int, *, cleaned: bool = False) -> Path:
    """Write a bundle of a random EfficientNet-Lite0, with weights so large that its last block is active."""
    torch.manual_seed(5)
    network = LesionNetwork(architecture="efficientnet-lite0")
    for weights in network.features.parameters():
        if weights.ndim == 4:
            torch.nn.init.kaiming_normal_(weights)
    preprocessing = Preprocessing(input_side=side, cleaned=cleaned, mean=(0.5,) * 3, std=(0.5,) * 3)
    return _write_bundle(network, folder, preprocessing=preprocessing, heatmap_scales=(1.0,) * 3)


def _write_bundle(network: LesionNetwork, folder: Path, **changes) -> Path:
    folder.mkdir(parents=True)
    weights = {key: value.half() if value.is_floating_point() else value for key, value in network.state_dict().items()}
    save_file(weights, folder / WEIGHTS_NAME)
    digest = hashlib.sha256((folder / WEIGHTS_NAME).read_bytes()).hexdigest()
    manifest = tiny_manifest(architecture=network.architecture, weights_sha256=digest, **changes)
    (folder / MANIFEST_NAME).write_text(manifest.model_dump_json())
    (folder / CARD_NAME).write_text("# tiny\n\nIt has learnt nothing.\n")
    return folder
