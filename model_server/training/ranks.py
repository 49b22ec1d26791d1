"""The processes of one training: which of them this one is, and what they do together. One alone does nothing of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn
from torch.distributed import PrefixStore, Store  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from model_server.ranker.cores import idle_threads
from model_server.ranker.device import device_of
from model_server.training.launch import in_company

Numbers = TypeVar("Numbers", bound=np.generic)
ANSWERS_WITHIN = timedelta(minutes=10)
"""How long a step of one process may take longer than that of another."""
READY_WITHIN = timedelta(days=7)
"""How long the others wait for what the first one shares: it reads the log, and makes examples of it."""


class RanksError(RuntimeError):
    """Processes that cannot train together, or no longer; the text says why."""


class Ranks:
    """One process alone, which is the first of one."""

    rank = 0
    world = 1

    def threads(self, wanted: int) -> int:
        """Threads for torch here: `wanted`, 0 for as many as cores are idle."""
        return wanted or idle_threads()

    def draw_apart(self, seed: int) -> None:
        """Let torch draw other numbers here than in every other process; the first goes on as it is."""

    def parallel(self, net: nn.Module) -> nn.Module:
        """The net, with the first one's numbers and with gradients that are the mean of all processes'.

        To be let go with its stage: its hooks are in the net as long as it is held.
        """
        return net

    def part(self, rows: NDArray[Numbers]) -> NDArray[Numbers]:
        """This one's of rows that all have in common."""
        return rows[self.rank :: self.world]

    def summed(self, numbers: NDArray[Numbers]) -> NDArray[Numbers]:
        """The sum over all processes, on each of them."""
        return numbers

    def share(self, content: bytes) -> bytes:
        """What the first process has."""
        return content

    def gathered(self, state: Tensor) -> list[Tensor]:
        """What each has, of one size and on the CPU, by rank."""
        return [state]

    def agreed(self, number: float) -> float:
        """The first one's number, to the bit: what is decided by it is decided alike everywhere."""
        return float.fromhex(self.share(number.hex().encode()).decode())

    def leave(self) -> None:
        """All have come to the end of what they do together; from here on each is alone."""


class Group(Ranks):
    """One of several processes. What they do together they do in the same order, or they wait for each other."""

    def __init__(self, store: Store, rank: int, world: int) -> None:
        self.rank, self.world = rank, world
        self._store = store
        self._shared = 0

    def threads(self, wanted: int) -> int:
        return wanted or max(1, idle_threads() // int(os.environ.get("LOCAL_WORLD_SIZE", self.world)))

    def draw_apart(self, seed: int) -> None:
        if self.rank:
            torch.manual_seed(int(np.random.SeedSequence((seed, self.rank)).generate_state(1)[0]))

    def parallel(self, net: nn.Module) -> nn.Module:
        return DistributedDataParallel(net)

    def summed(self, numbers: NDArray[Numbers]) -> NDArray[Numbers]:
        whole = torch.from_numpy(numbers.copy())
        distributed.all_reduce(whole)
        found: NDArray[Any] = whole.numpy()
        return found

    def share(self, content: bytes) -> bytes:
        self._shared += 1
        key = f"shared {self._shared}"
        if self.rank == 0:
            self._store.set(key, str(len(content)))
        else:
            self._store.wait([key], READY_WITHIN)
        held = bytearray(content) if self.rank == 0 else bytearray(int(self._store.get(key)))
        if held:
            distributed.broadcast(torch.frombuffer(held, dtype=torch.uint8), 0)
        return bytes(held)

    def gathered(self, state: Tensor) -> list[Tensor]:
        every = [torch.empty_like(state) for _ in range(self.world)]
        distributed.all_gather(every, state)
        return every

    def leave(self) -> None:
        distributed.destroy_process_group()


@contextmanager
def joined(name: str) -> Iterator[Ranks]:
    """This process as the environment has it, with the device called so. Raises RanksError, also for what breaks."""
    if not in_company():
        yield Ranks()
        return
    device = _taken(device_of(name))
    try:
        store, rank, world = next(rendezvous("env://"))
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
            store=store,
            rank=rank,
            world_size=world,
            timeout=ANSWERS_WITHIN,
        )
        yield Group(PrefixStore("kairos", store), rank, world)
    except RuntimeError as error:
        if not _of_the_others(error):
            raise
        reason = str(error).splitlines()[0].split("] ", 1)[-1].partition(". ")[0]
        text = f"Another process of this training has gone, or does not answer ({reason}): ask for it again to go on."
        raise RanksError(text) from error


def _taken(device: torch.device) -> torch.device:
    """The device of this process, one of its own on this machine."""
    if device.type == "cuda":
        mine, processes = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
        if processes > torch.cuda.device_count():
            text = f"{processes} processes need as many CUDA devices, and here are {torch.cuda.device_count()}."
            raise RanksError(text)
        torch.cuda.set_device(mine)
    return device


def _of_the_others(error: RuntimeError) -> bool:
    """Whether it came from the connection to them: gloo's errors are told by their text alone."""
    return isinstance(error, distributed.DistError) or "gloo" in str(error).lower()
