"""BentoML with adaptive batching."""

from pathlib import Path
from typing import Annotated

import bentoml
from bentoml.validators import ContentType
from model import Explainer
from settings import BATCH, BUNDLE, THREADS, WAIT_S, WORKERS


@bentoml.service(workers=WORKERS, traffic={"timeout": 3600})
class Peer:
    def __init__(self) -> None:
        self._explain = Explainer(BUNDLE, THREADS)

    @bentoml.api(batchable=True, max_batch_size=BATCH, max_latency_ms=int(1000 * WAIT_S))
    def explain(self, photographs: list[Annotated[Path, ContentType("image/jpeg")]]) -> list[dict[str, str]]:
        return self._explain([photograph.read_bytes() for photograph in photographs])
