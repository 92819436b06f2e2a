"""Whether training computes in half precision: only where that is faster on the machine at hand."""

import time
from functools import cache

import torch
from torch.nn import functional

from shared.bundle import Architecture

# A convolution of a ResNet-50's second stage, for a few images.
_IMAGES, _CHANNELS, _SIDE = 8, 128, 28
_TRIES = 3


def half_precision(device: torch.device, learning: Architecture | None = None) -> torch.autocast:
    """Return a context in which torch computes in bfloat16 where that pays: on most GPUs, and some CPUs.

    On CPUs, gradients of depthwise convolutions take longer in it: the light network trains a quarter faster without.
    """
    pays = bfloat16_pays(device.type) and (device.type == "cuda" or learning != "efficientnet-lite0")
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=pays)


@cache
def bfloat16_pays(device_type: str) -> bool:
    """Tell whether convolutions are faster in bfloat16 than in float32: on a CPU that has it, both are timed.

    GPUs have units for it from Ampere on; Turing, without, only emulates it.
    Without instructions for it, a CPU takes twenty times as long. With them, but without tiles (AMX), a Xeon took 1.7
    times as long, while other makes are faster in it.
    """
    if device_type != "cpu":
        return device_type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    if not (capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")):
        return False
    return time_convolution(torch.bfloat16) < time_convolution(torch.float32)


@torch.inference_mode(False)
@torch.enable_grad()
def time_convolution(dtype: torch.dtype) -> float:
    """Return the seconds, at best, that a CPU takes for a convolution and its gradients in bfloat16 or float32."""
    maps = torch.ones(_IMAGES, _CHANNELS, _SIDE, _SIDE).to(memory_format=torch.channels_last).requires_grad_()
    weights = torch.ones(_CHANNELS, _CHANNELS, 3, 3).requires_grad_()
    taken = []
    for _ in range(_TRIES):
        started = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            found = functional.conv2d(maps, weights, padding=1)
        found.float().sum().backward()
        taken.append(time.perf_counter() - started)
    return min(taken)
