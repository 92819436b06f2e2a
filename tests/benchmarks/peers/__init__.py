"""What people use today for the same work, each in processes of its own and in an environment without our packages.

Every one takes photographs and returns to its caller a class and a Grad-CAM overlay of 224 x 224 px: the shipped
network in torch, explained by pytorch-grad-cam as its guide shows it.
"""

from functools import partial

from tests.benchmarks.contender import Contender
from tests.benchmarks.peers.running import PEERS, running


def contenders() -> list[Contender]:
    """Return all of them. One that does not start raises StartFailed, with its name and the end of what it said."""
    return [Contender(peer.name, partial(running, peer), is_ours=False) for peer in PEERS]
