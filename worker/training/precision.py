"""Mixed precision in training: only where that is faster, and always the same on one machine."""

import torch

from shared.bundle import Architecture


def mixed_precision(device: torch.device, training: Architecture | None = None) -> torch.autocast:
    """Return a context in which torch computes in bfloat16 where that pays: on most GPUs, and some CPUs.

    On CPUs, gradients of depthwise convolutions take longer in it: the light network trains a quarter faster without.
    """
    pays = bfloat16_pays(device.type) and (device.type == "cuda" or training != "efficientnet-lite0")
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=pays)


def bfloat16_pays(device_type: str) -> bool:
    """Tell whether convolutions are faster in bfloat16 than in float32.

    GPUs have units for it from Ampere on; Turing, without, only emulates it. Among CPUs, those with tiles (AMX) and
    AMD's from Zen 4 on, which took 0.4 times as long. With the same instructions (AVX-512 BF16) a Xeon took 1.7
    times as long, and any CPU without them twenty times. It is not timed: beside other programs the answer would
    change from one start to the next, and with it what a resumed run computes.
    """
    if device_type != "cpu":
        return device_type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    cpu = torch.cpu.get_capabilities()
    return cpu.get("amx_bf16", False) or (cpu.get("avx512_bf16", False) and cpu["cpu_name"].startswith("AMD"))
