"""A worker's own `/metrics`, for Prometheus. Nothing in it identifies a clinic or a case."""

import errno
import logging
import os
from pathlib import Path

import torch
from prometheus_client import Gauge, start_http_server

from worker.heartbeat import Meter
from worker.model import Model, describe_device

_PORTS_TRIED = 64
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

_INFO = Gauge("dermqueue_worker_info", "What this worker runs; always 1.", ["model", "version", "device"])
_RATE = Gauge("dermqueue_worker_images_per_minute", "Images analysed per minute of work; 0: none in ten minutes.")
_MEMORY = Gauge(
    "dermqueue_device_memory_bytes",
    "Memory of the device (of the machine, for a CPU): `total`; `used` by all processes; `held` by this worker.",
    ["kind"],
)

log = logging.getLogger(__name__)


def serve_metrics(host: str, first_port: int, model: Model, device: torch.device, meter: Meter) -> int:
    """Serve `/metrics` from a thread and return the port: the first free one, as workers may share a machine."""
    _INFO.labels(model.manifest.name, model.manifest.version, describe_device(device)).set(1)
    _RATE.set_function(lambda: meter.images_per_minute() or 0)
    for kind in ("total", "used", "held"):
        _MEMORY.labels(kind).set_function(lambda kind=kind: measure_memory(device)[kind])
    port = _listen(host, first_port)
    log.info("metrics_served port=%d", port)
    return port


def _listen(host: str, first_port: int) -> int:
    port = first_port
    while True:
        try:
            start_http_server(port, host)
            return port
        except OSError as error:
            if error.errno != errno.EADDRINUSE or port == first_port + _PORTS_TRIED:
                raise
            port += 1


def measure_memory(device: torch.device) -> dict[str, int]:
    """Return a device's memory in bytes: in total, used by all processes, held by this one."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return {"total": total, "used": total - free, "held": torch.cuda.memory_reserved(device)}
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    kilobytes = {name.rstrip(":"): int(number) for name, number, *_ in lines}
    resident_pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "total": kilobytes["MemTotal"] * 1024,
        "used": (kilobytes["MemTotal"] - kilobytes["MemAvailable"]) * 1024,
        "held": resident_pages * _PAGE_BYTES,
    }
