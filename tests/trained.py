"""A small shop's log to train on, and what two trainings are compared by."""

from model_server.training.recorded import Recorded
from model_server.training.train import Trained
from tests.shoplog import recorded


def small_log() -> Recorded:
    """25 users, 80 items, 2,500 events; the same every time."""
    return recorded(11, users=25, items=80, events=2_500)


def weights(trained: Trained) -> bytes:
    """Every number of the net after the last stage."""
    return b"".join(part.numpy().tobytes() for part in trained.net.state_dict().values())
