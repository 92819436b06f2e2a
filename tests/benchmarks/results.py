"""What the benchmark found: the file that holds it, and the targets that its ratios are held against."""

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
FILE_NAME = "results.json"
_VERSIONS = ("torch", "onnxruntime", "pillow", "dermqueue")


@dataclass(frozen=True)
class Target:
    """The bound that a ratio is held against."""

    bound: float
    at_least: bool = False

    def is_met(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.bound:g}"


TARGETS = {
    "drained_over_limit": Target(0.80, at_least=True),
    "drained_over_best_peer": Target(5, at_least=True),
    "heatmap_over_forward": Target(1.05),
    "idle_latency_extra_ms": Target(60),
    "ingest_over_bare": Target(0.6, at_least=True),
    "polls_over_bare": Target(0.4, at_least=True),
    "claim_growth": Target(2),
    "poll_growth": Target(2),
    "list_growth": Target(2),
    "memory_growth": Target(1.1),
    "large_photos_over_limit": Target(0.75, at_least=True),
}
"""By the name of a ratio; `deploy/docs/benchmarks.md` says what each means."""


def describe_machine() -> dict:
    """Return what the figures depend on."""
    cpu_lines = Path("/proc/cpuinfo").read_text().splitlines()
    return {
        "cpu": next(line.partition(": ")[2] for line in cpu_lines if line.startswith("model name")),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": platform.system(),
        "python": platform.python_version(),
        **{name: version(name) for name in _VERSIONS},
    }


def read_results(folder: Path) -> dict:
    """Return what earlier runs have left in the folder; nothing yet is a result without parts."""
    file = folder / FILE_NAME
    return json.loads(file.read_text()) if file.exists() else assemble({}, {})


def write_results(folder: Path, results: Mapping) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE_NAME).write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")


def add_part(earlier: Mapping, machine: Mapping, name: str, found: Mapping, quick: bool) -> dict:
    """Return the earlier results with one part anew. Figures of another machine, or of other versions, are dropped."""
    kept = earlier["parts"] if earlier["machine"] == machine else {}
    part = {"measured": f"{datetime.now(UTC):%Y-%m-%d}", "quick": quick, **found}
    return assemble(machine, {**kept, name: part})


def assemble(machine: Mapping, parts: Mapping[str, Mapping]) -> dict:
    """Return results whose ratios are those of all the parts, in the targets' order."""
    found = {name: value for part in parts.values() for name, value in part["ratios"].items()}
    return {
        "ratios": {name: found[name] for name in TARGETS if name in found},
        "targets": {name: str(target) for name, target in TARGETS.items()},
        "machine": dict(machine),
        "parts": dict(parts),
    }
