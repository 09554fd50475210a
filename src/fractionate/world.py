"""The processes that take every step together, and how they find each other."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from .optim.reduce import heard

if dist.is_available():
    # Its functions keep the group that they find when they are imported, which the first optimizer does: after
    # init_process_group no destroy_process_group would end that group, and its threads abort a process that exits.
    import torch.distributed.nn.functional

POLL = 0.02  # seconds
Store = Any  # torch.distributed.Store, which torch's annotations do not export


def rendezvous_store(timeout: timedelta) -> Store | None:
    """A store of this attempt alone, for ``init_process_group``; ``None`` leaves the choice to torch.

    torchrun's agent serves one store for all its attempts, in which the addresses of ended processes still lie: those
    that are started again would call them.

    Args:
        timeout: how long to wait for the others.

    Raises:
        RuntimeError: they do not come.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    distributed: Any = dist  # torch's annotations do not export the stores
    store = distributed.TCPStore(address, port, is_master=False, timeout=timeout)
    own = distributed.PrefixStore("fractionate", store)
    return distributed.PrefixStore(agree(own, int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), timeout), store)


def agree(store: Store, rank: int, size: int, timeout: timedelta) -> str:
    """A name that exactly these processes know, whatever earlier ones have left in the store.

    Every process says a new name of its own. The first one offers the list of all names until everybody has found its
    own in it and has said so; the name of the meeting is the first one's.

    Args:
        store: shared by the processes.
        rank, size: of this process, of all.
        timeout: how long to wait for the others.

    Raises:
        RuntimeError: they do not come.
    """
    own, end = uuid.uuid4().hex, time.monotonic() + timeout.total_seconds()
    store.set(f"name {rank}", own)
    while time.monotonic() < end:
        if rank == 0:
            store.set("offer", " ".join([own, *(store.get(f"name {r}").decode() for r in range(1, size))]))
            if all(_said(store, r, own) for r in range(1, size)):
                return own
        elif (names := store.get("offer").decode().split())[rank : rank + 1] == [own]:
            store.set(f"heard {rank}", names[0])
            return names[0]
        time.sleep(POLL)
    raise RuntimeError(f"not all {size} processes have come within {timeout.total_seconds():g} seconds")


def _said(store: Store, rank: int, name: str) -> bool:
    key = f"heard {rank}"
    return store.check([key]) and store.get(key).decode() == name


T = TypeVar("T")
APART = 1_000_003  # between the seeds of processes
TIMEOUT = 600.0  # seconds after which a process that does not answer counts as lost


class Elsewhere(Exception):
    """The main process has refused or failed, and has said why; the others end with it."""


@dataclass(frozen=True)
class World:
    """One process among those of a run; alone unless ``torch.distributed`` says otherwise.

    Args:
        rank: number of this process, from 0.
        size: number of processes.

    Example:
        >>> World().main, World().on_main(lambda: 3)
        (True, 3)
    """

    rank: int = 0
    size: int = 1

    @property
    def main(self) -> bool:
        """Whether this process writes and speaks for all."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        """Whether there is nobody to talk to."""
        return self.size == 1

    def draw_apart(self, seed: int) -> None:
        """Let every process but the main one draw random numbers of its own, as dropout must; the same in every run."""
        if not self.main:
            torch.manual_seed(seed + APART * self.rank)

    def on_main(self, work: Callable[[], T]) -> T:
        """Do something in the main process; the others wait for it and get its result.

        Raises:
            Exception: what ``work`` raised, in the main process; :class:`Elsewhere` in the others.
        """
        if self.alone:
            return work()
        box: list[Any] = [None, None]
        failure: BaseException | None = None
        if self.main:
            try:
                box = [True, work()]
            except Exception as error:  # every process has to hear of it before it is raised
                box, failure = [False, f"{type(error).__name__}: {error}"], error
        heard(lambda: dist.broadcast_object_list(box, src=0, group=talk()))
        if failure is not None:
            raise failure
        if not box[0]:
            raise Elsewhere(box[1])
        return box[1]

    def everyones(self, value: T) -> list[T]:
        """What every process says, by rank."""
        if self.alone:
            return [value]
        found: list[Any] = [None] * self.size
        heard(lambda: dist.all_gather_object(found, value, group=talk()))
        return found

    def sum_(self, x: Tensor) -> Tensor:
        """``x`` summed over the processes, in place."""
        if not self.alone:
            heard(lambda: dist.all_reduce(x))
        return x

    def copy_from_main(self, tensors: Sequence[Tensor]) -> None:
        """Give every process the main one's numbers."""
        if not self.alone:
            for x in tensors:
                heard(partial(dist.broadcast, x, src=0))

    def rows(self, x: Tensor) -> list[Tensor]:
        """The rows of every process by rank; their number may differ, their other sizes may not."""
        if self.alone:
            return [x]
        counts = self.everyones(len(x))
        padded = x.new_zeros(max(counts), *x.shape[1:])
        padded[: len(x)] = x
        found = [torch.empty_like(padded) for _ in counts]
        heard(lambda: dist.all_gather(found, padded))
        return [each[:count] for each, count in zip(found, counts, strict=True)]


class Wishes:
    """What any process wants to happen after a step, agreed on by all; the largest wish counts.

    Alone, a wish is granted at once. Otherwise it is exchanged while the next step runs, so that no step waits for it.

    Args:
        world: the processes.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self._work: dist.Work | None = None
        self._shared = torch.zeros(1, dtype=torch.int64)

    def exchange(self, wish: int) -> int:
        """Say this step's wish and hear the agreed one of the step before; called at the same places everywhere."""
        if self.world.alone:
            return wish
        agreed = self.settle()
        self._shared.fill_(wish)
        self._work = heard(lambda: dist.all_reduce(self._shared, dist.ReduceOp.MAX, group=talk(), async_op=True))
        return agreed

    def settle(self) -> int:
        """The agreed wish that was said last; 0 if all were heard."""
        if self._work is None:
            return 0
        heard(self._work.wait)
        self._work = None
        return int(self._shared)


def current() -> World:
    """The processes of this run: those of ``torch.distributed`` if it has been initialised."""
    if dist.is_available() and dist.is_initialized():
        return World(dist.get_rank(), dist.get_world_size())
    return World()


_talk: list[dist.ProcessGroup] = []


def talk() -> dist.ProcessGroup | None:
    """The group for words: processes on GPUs need one of their own, on CPUs, which no kernel waits for."""
    return _talk[0] if _talk else None


def launched() -> int:
    """How many processes the launcher has started: ``WORLD_SIZE``, as torchrun sets it."""
    return int(os.environ.get("WORLD_SIZE") or 1)


def speaks() -> bool:
    """Whether this process tells the user what all of them know."""
    return int(os.environ.get("RANK") or 0) == 0


def restarts() -> bool:
    """Whether torchrun starts processes again that end with an exit code other than 0."""
    return int(os.environ.get("TORCHELASTIC_MAX_RESTARTS") or 0) > 0


def restarted() -> bool:
    """Whether torchrun has started these processes again after a failure."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT") or 0) > 0


@contextmanager
def joined(timeout: float = TIMEOUT) -> Iterator[World]:
    """Take part in the run that torchrun has started this process for; alone if it has not.

    NCCL where processes have GPUs (each its own), gloo on CPUs.

    Args:
        timeout: seconds after which a process that does not answer counts as lost.

    Raises:
        ValueError: more processes on this host than GPUs.
    """
    if launched() == 1 or dist.is_initialized():
        yield current()
        return
    cuda = torch.cuda.is_available()
    if cuda:
        local = int(os.environ.get("LOCAL_RANK") or 0)
        if local >= torch.cuda.device_count():
            raise ValueError(
                f"this is process {local + 1} of this host, which has {torch.cuda.device_count()} GPUs: start as many "
                f"processes as GPUs (torchrun --nproc-per-node {torch.cuda.device_count()})"
            )
        torch.cuda.set_device(local)
    wait = timedelta(seconds=timeout)
    store = heard(lambda: rendezvous_store(wait))
    place = {} if store is None else {"store": store, "rank": int(os.environ["RANK"]), "world_size": launched()}
    backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    heard(lambda: dist.init_process_group(backend, timeout=wait, **place))
    words: Any = heard(lambda: dist.new_group(backend="gloo", timeout=wait))
    _talk[:] = [words]
    try:
        yield current()
    finally:
        _talk.clear()
        dist.destroy_process_group()
