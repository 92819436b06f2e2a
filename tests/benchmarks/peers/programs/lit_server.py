"""LitServe with batching."""

import os

from litserve import LitAPI, LitServer
from model import Explainer
from settings import BATCH, BUNDLE, THREADS, WAIT_S, WORKERS


class Peer(LitAPI):
    def setup(self, device: str) -> None:
        self._explain = Explainer(BUNDLE, THREADS)

    def decode_request(self, request) -> bytes:
        return request["photographs"].file.read()

    def predict(self, photographs: list[bytes]) -> list[dict[str, str]]:
        return self._explain(photographs)


if __name__ == "__main__":
    api = Peer(max_batch_size=BATCH, batch_timeout=WAIT_S, api_path="/explain")
    server = LitServer(api, accelerator="cpu", workers_per_device=WORKERS, timeout=False)
    server.run(host="127.0.0.1", port=int(os.environ["PEER_PORT"]), generate_client_file=False)
