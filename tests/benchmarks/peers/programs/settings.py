"""What every peer is told by its environment."""

import os
from pathlib import Path

BUNDLE = Path(os.environ["PEER_BUNDLE"])
WORKERS = int(os.environ["PEER_WORKERS"])
THREADS = int(os.environ["PEER_THREADS"])
"""Of each worker."""
BATCH = int(os.environ["PEER_BATCH"])
WAIT_S = float(os.environ["PEER_WAIT_S"])
"""The longest that a request waits for others to fill a batch."""
