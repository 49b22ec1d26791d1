"""`kairos train --processes N`: the same command in N processes, which end together."""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import uuid
from collections.abc import Sequence

LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"
LOOKS_EVERY_S = 0.1
"""How soon it is noticed that a process has ended."""


def in_company() -> bool:
    """Whether this is one of several processes of a training: torchrun and we say so in the environment."""
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def launch(command: Sequence[str], processes: int) -> int:
    """Run `command` in so many processes on this machine and wait for them; the status of the training.

    Where one dies the others are stopped; where it could not say itself why, that is said here.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.disable(logging.ERROR)  # what torch has to tell is told below, and this process does nothing else
    os.environ.setdefault("GLOO_SOCKET_IFNAME", LOOPBACK)
    with tempfile.TemporaryDirectory(prefix="kairos-train-") as folder:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="127.0.0.1",
            max_restarts=0,
            monitor_interval=LOOKS_EVERY_S,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        try:
            elastic_launch(config, command[0])(*command[1:])
        except ChildFailedError as error:
            return ended({rank: failure.exitcode for rank, failure in error.failures.items()}, processes)
        except SignalException as stopped:
            return 128 + int(stopped.sigval)
    return 0


def ended(statuses: dict[int, int], processes: int) -> int:
    """The status to end with; one below 0 is a signal, and whom a signal ended has said nothing.

    Who was told to stop (SIGTERM) is the reason for nothing.
    """
    rank = min(statuses, key=lambda number: (statuses[number] == -signal.SIGTERM, statuses[number] > 0, number))
    status = statuses[rank]
    if status > 0:
        return status
    print(
        f"Process {rank} of the {processes} of this training was ended by {signal.Signals(-status).name}, and the "
        "others with it. Ask for the same training again: it goes on from its last pass.",
        file=sys.stderr,
    )
    return 1
