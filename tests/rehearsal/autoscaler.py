"""How many workers there should be: the rule of `deploy/kubernetes/scaling.yaml`, as KEDA and its autoscaler follow it.

Not imitated: how fast the autoscaler may grow (it doubles within 15 s), since at most eight workers are asked for here.
"""

import math
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import yaml

MANIFEST = Path(__file__).parents[2] / "deploy" / "kubernetes" / "scaling.yaml"
TOLERANCE = 0.1
"""Of Kubernetes' autoscaler: it leaves a number of workers that is off by less as it is."""


@dataclass(frozen=True)
class Rule:
    """`query` counts the work in SQL; each worker should find `cases_per_worker` of it before it. Times in s."""

    query: str
    cases_per_worker: float
    images_per_minute: float
    clear_in_minutes: float
    most_workers: int
    poll_s: float
    cooldown_s: float
    stabilization_s: float

    @classmethod
    def read(cls, manifest: Path = MANIFEST) -> Self:
        """Read what KEDA would."""
        scaled = next(yaml.safe_load_all(manifest.read_text()))
        spec, annotations = scaled["spec"], scaled["metadata"]["annotations"]
        trigger = spec["triggers"][0]["metadata"]
        behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        assert spec["minReplicaCount"] == 0
        return cls(
            trigger["query"],
            float(trigger["targetQueryValue"]),
            float(annotations["dermqueue/images-per-minute"]),
            float(annotations["dermqueue/clear-in-minutes"]),
            spec["maxReplicaCount"],
            spec["pollingInterval"],
            spec["cooldownPeriod"],
            behavior["scaleDown"]["stabilizationWindowSeconds"],
        )


class Autoscaler:
    """Follows a rule from one look at the backlog to the next."""

    def __init__(self, rule: Rule):
        self._rule = rule
        self._wanted: deque[tuple[float, int]] = deque()
        self._busy_at = -math.inf

    def decide(self, backlog: float, workers: int, now_s: float) -> int:
        """Return how many workers there should be, given how many there are.

        From zero any work wakes one, and to zero leads a cooldown without any. In between, the autoscaler's number is
        the largest that the last stabilization window asked for.
        """
        if backlog > 0:
            self._busy_at = now_s
        if workers == 0:
            self._wanted.clear()
            return 1 if backlog > 0 else 0
        if now_s - self._busy_at >= self._rule.cooldown_s:
            return 0
        usage = backlog / (self._rule.cases_per_worker * workers)
        wanted = workers if abs(usage - 1) <= TOLERANCE else math.ceil(backlog / self._rule.cases_per_worker)
        self._wanted.append((now_s, wanted))
        while self._wanted[0][0] < now_s - self._rule.stabilization_s:
            self._wanted.popleft()
        lasting = max(number for _, number in self._wanted)
        return max(1, min(self._rule.most_workers, max(wanted, min(lasting, workers))))
