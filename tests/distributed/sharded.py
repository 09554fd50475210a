"""Small float64 training runs whose student FSDP2 keeps in shards, and the same runs with a whole student."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, multiprocessing, nn
from torch.utils.checkpoint import checkpoint

import fractionate as fr
from fractionate import Method, StreamAdamW, StreamSGD
from fractionate.optim import StreamGrads, clip_streams, clip_total, unsharded

CLASSES, BATCH, STEPS = 6, 8, 4
DKD = fr.methods.dkd(warmup=1)
Numbers = dict[str, Tensor]
ON_CPU = pytest.mark.skipif(
    not hasattr(torch.cpu.Stream, "record_event"), reason="FSDP2 of this torch knows no CPU: it takes torch 2.7"
)


class Block(nn.Module):
    """A residual layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, 7), nn.Linear(7, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(torch.tanh(self.up(self.norm(x))))


class Student(nn.Module):
    """Odd sizes, so that shards are uneven and some are empty; a frozen weight, and one that no loss reaches."""

    def __init__(self, recompute: bool = False) -> None:
        super().__init__()
        self.stem, self.blocks = nn.Linear(5, 9), nn.ModuleList([Block(9), Block(9)])
        self.head, self.unused = nn.Linear(9, CLASSES), nn.Parameter(torch.ones(3))
        self.blocks[0].up.weight.requires_grad_(False)
        self.recompute = recompute

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if self.recompute else block(x)
        return self.head(x)


@dataclass(frozen=True)
class Case:
    """A run: a method, how it steps, and how its student is sharded."""

    method: Method = DKD
    merge: bool | None = None
    weight_decay: float = 0.02
    reshard: bool | None = None  # FSDP's reshard_after_forward
    hybrid: bool = False  # two groups of processes, each of which holds all shards
    parts: int = 1  # of a process's rows, whose gradients are accumulated
    clip: Callable[[StreamGrads], StreamGrads] | None = None
    combine: str | None = None  # a rule that makes one stream of all
    listed: bool = False  # parameters in place of the module
    recompute: bool = False
    adamw: bool = False


DEEPKD = Case(fr.methods.deepkd(DKD), merge=False)
PUBLISHED = Case(fr.methods.deepkd(DKD, rule="published-code"))
CASES = {
    "plain": Case(),
    "dot": Case(fr.methods.dot(DKD)),
    "deepkd": DEEPKD,
    "deepkd, published code": PUBLISHED,
    "never resharded": replace(DEEPKD, reshard=False),
    "always resharded": replace(DEEPKD, reshard=True),
    "accumulated": replace(DEEPKD, parts=2),
    "streams clipped": replace(DEEPKD, clip=lambda g: clip_streams(g, 0.1)),
    "sum clipped": replace(DEEPKD, clip=lambda g: clip_total(g, 0.1)),
    "shortest": replace(DEEPKD, combine="min_norm"),
    "projected, hybrid": replace(DEEPKD, combine="pcgrad", hybrid=True),
    "hybrid": replace(DEEPKD, hybrid=True, clip=lambda g: clip_total(clip_streams(g, 0.1), 0.1)),
    "parameters listed": replace(DEEPKD, listed=True),
    "activations recomputed": replace(DEEPKD, recompute=True),
    "adamw, one stream": Case(adamw=True),
    "adamw": replace(DEEPKD, adamw=True),
}


def spread() -> tuple[int, int]:
    """Rank and size."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def mesh(hybrid: bool = False) -> Any:
    """All processes on CPUs, whatever else the machine has; in two groups if wanted."""
    from torch.distributed.device_mesh import init_device_mesh

    size = spread()[1]
    if hybrid:
        return init_device_mesh("cpu", (2, size // 2), mesh_dim_names=("copies", "shards"))
    return init_device_mesh("cpu", (size,))


def student(case: Case, seed: int = 0) -> Student:
    """Whole where this process is alone, in shards otherwise."""
    torch.manual_seed(seed)
    net = Student(case.recompute).double()
    if dist.is_initialized():
        from torch.distributed.fsdp import fully_shard

        options = {} if case.reshard is None else {"reshard_after_forward": case.reshard}
        for part in (*net.blocks, net):
            fully_shard(part, mesh=mesh(case.hybrid), **options)
    return net


def optimizer(net: nn.Module, case: Case) -> StreamSGD | StreamAdamW:
    momenta = 0.9 if case.combine else case.method.momenta(0.9, merge=case.merge)
    if case.adamw:
        return StreamAdamW(net.parameters(), lr=0.01, betas=momenta, weight_decay=case.weight_decay)
    return StreamSGD(net.parameters(), lr=0.05, momentum=momenta, weight_decay=case.weight_decay)


def rows(net: nn.Module, step: int, part: int = 0, parts: int = 1) -> fr.Logits:
    """This process's rows of a step's batch, or a part of them."""
    rank, size = spread()
    random = torch.Generator().manual_seed(step)
    x = torch.randn(BATCH, 5, generator=random).double()
    teacher = 3 * torch.randn(BATCH, CLASSES, generator=random).double()
    target = torch.randint(CLASSES, (BATCH,), generator=random)
    mine = slice(rank * BATCH // size, (rank + 1) * BATCH // size)
    x, teacher, target = (t[mine].chunk(parts)[part] for t in (x, teacher, target))
    return fr.Logits(net(x), teacher, target)


def gradients(net: nn.Module, case: Case, params: list[Tensor], step: int) -> StreamGrads:
    grads = None
    for part in range(case.parts):
        losses = case.method.stream_losses(rows(net, step, part, case.parts), merge=case.merge)
        scaled = {name: loss / case.parts for name, loss in losses.items()}
        grads = fr.stream_grads(scaled, params if case.listed else net, onto=grads)
    grads = grads if case.clip is None else case.clip(grads)
    return grads if case.combine is None else fr.combine.combined(grads, case.combine, seed=step)


def train(net: nn.Module, opt: StreamSGD | StreamAdamW, case: Case, steps: range = range(STEPS)) -> Numbers:
    """The weights, and what was seen on the way."""
    params = list(net.parameters())
    for step in steps:
        grads = gradients(net, case, params, step)
        assert all(p.grad is None for p in net.parameters())
        for stream in grads:
            reached = [None if g is None else g.shape for g in grads[stream]]
            unreached = [name for (name, _), g in zip(net.named_parameters(), reached, strict=True) if g is None]
            assert unreached == ["unused", "blocks.0.up.weight"], unreached
        opt.step(grads)
    weights = unsharded(net.state_dict())
    buffers = unsharded(opt.state_dict())["state"]
    return weights | {
        f"buffer {i} {name}": torch.as_tensor(x) for i, found in buffers.items() for name, x in found.items()
    }


def outcome(case: Case) -> Numbers:
    net = student(case)
    return train(net, optimizer(net, case), case)


def half_way(case: Case, path: Path) -> None:
    """Train half of the steps, and let one process save everything whole."""
    net = student(case)
    opt = optimizer(net, case)
    train(net, opt, case, range(STEPS // 2))
    main = spread()[0] == 0
    saved = {"student": unsharded(net.state_dict(), keep=main), "opt": unsharded(opt.state_dict(), keep=main)}
    if main:
        torch.save(saved, path)


def resumed(case: Case, path: Path) -> Numbers:
    """The other half, from a file that any number of processes may have written."""
    saved = torch.load(path)
    net = student(case, seed=9)
    opt = optimizer(net, case)
    opt.load_state_dict(saved["opt"])
    if dist.is_initialized():
        from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

        set_model_state_dict(net, saved["student"], options=StateDictOptions(full_state_dict=True))
    else:
        net.load_state_dict(saved["student"])
    return train(net, opt, case, range(STEPS // 2, STEPS))


def in_bfloat16(reshard: bool) -> dict[str, bool]:
    """Streams under a mixed-precision policy, beside FSDP's own backward pass of every loss alone."""
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    torch.manual_seed(0)
    net = Student()
    policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32)
    for part in net.blocks:
        fully_shard(part, mesh=mesh(), mp_policy=policy, reshard_after_forward=reshard)
    policy = replace(policy, output_dtype=torch.float32)
    fully_shard(net, mesh=mesh(), mp_policy=policy, reshard_after_forward=reshard)

    def losses() -> Numbers:
        lg = rows(lambda x: net(x.float()).double(), 0)
        return DEEPKD.method.stream_losses(lg, merge=False)

    found, same, moved = fr.stream_grads(losses(), net), True, False
    for name in found:
        losses()[name].backward()
        for p, g in zip(net.parameters(), found[name], strict=True):
            same &= p.grad is None if g is None else torch.equal(p.grad.to_local(), g.to_local())
            moved |= g is not None and bool(g.full_tensor().any())
            p.grad = None
    kinds = {g.dtype for grads in found.values() for g in grads if g is not None}
    return {"each is that of its loss alone": same and moved, "in the reduction's type": kinds == {torch.float32}}


def messages(reshard: bool) -> list[int]:
    """How many all-gathers and reduce-scatters a step of three streams takes; every block and the rest is one each."""
    from torch.distributed.tensor.debug import CommDebugMode

    case = replace(DEEPKD, reshard=reshard)
    net = student(case)
    for step in range(2):  # the first one prepares
        with CommDebugMode() as counted:
            gradients(net, case, [], step)
    kinds = [(str(kind).replace("_", ""), count) for kind, count in counted.get_comm_counts().items()]
    return [sum(n for kind, n in kinds if word in kind) for word in ("allgather", "reducescatter")]


def refusals() -> dict[str, str]:
    """What is said to those who ask for what cannot be."""
    from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard

    net = student(DEEPKD)
    params = list(net.parameters())
    losses = DEEPKD.method.stream_losses
    found = {}
    with said(found, "reduce"):
        fr.stream_grads(losses(rows(net, 0)), net, reduce=fr.AllReduce())
    with said(found, "update"):
        fr.UpdateAllReduce(optimizer(net, DEEPKD))
    with said(found, "plain parameters"):
        fr.stream_grads(losses(rows(net, 0)), [*params, nn.Parameter(torch.ones(3))])
    params[-1].grad = torch.zeros_like(params[-1])
    with said(found, "gradient there"):
        fr.stream_grads(losses(rows(net, 0)), params)
    net.set_requires_gradient_sync(False)
    params[-1].grad = None
    with said(found, "no synchronisation"):
        fr.stream_grads(losses(rows(net, 0)), net)
    late = student(replace(DEEPKD, reshard=False))
    opt = optimizer(late, DEEPKD)
    lg = rows(late, 0)
    with said(found, "listed between forward and backward"):
        opt.step(fr.stream_grads(losses(lg, merge=False), late.parameters()))
    half = Student().double()
    fully_shard(half.blocks[0], mesh=mesh())
    with said(found, "half a module"):
        fr.stream_grads(losses(rows(half, 0)), half)
    old = FullyShardedDataParallel.__new__(FullyShardedDataParallel)  # its constructor wants a GPU
    nn.Module.__init__(old)
    with said(found, "FSDP1"):
        fr.stream_grads({"loss": params[0].sum()}, nn.Sequential(old))
    return found


@contextmanager
def said(found: dict[str, str], name: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        found[name] = str(error)


def apart(case: Case) -> Numbers:
    """Every process with a whole student and its own rows: nothing is exchanged."""
    torch.manual_seed(0)
    net = Student().double()
    return train(net, optimizer(net, case), case)


def compute(folder: Path) -> dict[str, Any]:
    """Everything, in this process, which may be one of several."""
    size = spread()[1]
    found: dict[str, Any] = {"cases": {name: outcome(case) for name, case in CASES.items()}}
    half_way(DEEPKD, folder / f"half-{size}.pt")
    if size > 1:
        found["resumed from one"] = resumed(DEEPKD, folder / "half-1.pt")
        found["apart"] = apart(DEEPKD)
        found["bfloat16"] = {reshard: in_bfloat16(reshard) for reshard in (True, False)}
        found["refusals"] = refusals()
        found["messages"] = {reshard: messages(reshard) for reshard in (True, False)}
    return found


def _process(rank: int, size: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meet-{size}", rank=rank, world_size=size)
    torch.save(compute(Path(folder)), Path(folder) / f"{size}-{rank}.pt")
    dist.destroy_process_group()


def world(size: int, folder: Path) -> list[dict[str, Any]]:
    """What each of ``size`` processes found; computed by whoever of a session's workers comes first."""
    folder.mkdir(exist_ok=True)
    files = [folder / f"{size}-{rank}.pt" for rank in range(size)]
    if size > 1:
        world(1, folder)  # what it saved is read
    with (folder / f"lock-{size}").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not all(file.exists() for file in files):
            if size == 1:
                torch.save(compute(folder), files[0])
            else:
                multiprocessing.spawn(_process, (size, str(folder)), nprocs=size)
    return [torch.load(file) for file in files]
