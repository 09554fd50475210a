"""How the processes that torchrun has started find each other, also after it has started them again."""

from __future__ import annotations

import os
import time
import uuid
from datetime import timedelta
from typing import Any

import torch.distributed

POLL = 0.02  # seconds
Store = Any  # torch.distributed.Store, which torch's annotations do not export
dist: Any = torch.distributed


def meeting_store(timeout: timedelta) -> Store | None:
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
    store = dist.TCPStore(address, port, is_master=False, timeout=timeout)
    own = dist.PrefixStore("fractionate", store)
    return dist.PrefixStore(agree(own, int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), timeout), store)


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
