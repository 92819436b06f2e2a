"""Ray Serve with `@serve.batch`."""

import os

import ray
from model import Explainer
from ray import serve
from settings import BATCH, BUNDLE, THREADS, WAIT_S, WORKERS
from starlette.requests import Request


@serve.deployment(num_replicas=WORKERS, ray_actor_options={"num_cpus": THREADS}, max_ongoing_requests=4 * BATCH)
class Peer:
    def __init__(self) -> None:
        self._explain = Explainer(BUNDLE, THREADS)

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=WAIT_S)
    async def explain(self, photographs: list[bytes]) -> list[dict[str, str]]:
        return self._explain(photographs)

    async def __call__(self, request: Request) -> dict[str, str]:
        if request.method == "GET":  # whether it is there
            return {}
        async with request.form() as form:
            return await self.explain(await form["photographs"].read())


if __name__ == "__main__":
    ray.init(
        num_cpus=WORKERS * THREADS, include_dashboard=False, _node_ip_address="127.0.0.1", _temp_dir=os.environ["HOME"]
    )
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["PEER_PORT"])})
    serve.run(Peer.bind(), route_prefix="/explain", blocking=True)
