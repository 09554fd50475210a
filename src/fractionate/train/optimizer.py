"""A config's optimizer: its streams, its groups of parameters by rule, and the learning rate of every epoch."""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from ..combine import STREAM
from ..config.optimizers import SGD, AdamW, LearningRate
from ..config.run import Run
from ..methods import Method, resplit
from ..optim import Momenta, StreamAdamW, StreamSGD

TOKENS = ("pos_embed", "position_embed", "pos_encoding", "_token", "relative_position_bias_table")


def stream_optimizer(run: Run, params: Any, momenta: Momenta) -> StreamSGD | StreamAdamW:
    """The config's optimizer, by name, of parameters or groups of them.

    Raises:
        ValueError: momenta that this optimizer does not follow.
    """
    o = run.optimizer
    if o.name == "adamw":
        return StreamAdamW(
            params,
            lr=o.lr,
            betas=momenta,
            beta2=o.beta2,
            eps=o.eps,
            weight_decay=o.weight_decay,
            gain=o.gain,
            clip_rms=o.clip_rms,
        )
    return StreamSGD(
        params,
        lr=o.lr,
        momentum=momenta,
        weight_decay=o.weight_decay,
        dampening=o.dampening,
        nesterov=o.nesterov,
    )


def unmerged(method: Method) -> Method:
    """The method as it is watched: a single stream is taken apart into its components, all at the same momentum.

    Example:
        >>> import fractionate as fr
        >>> [s.name for s in unmerged(fr.methods.kd()).streams]
        ['task', 'kd']
    """
    if len(method.streams) > 1 or len(method.parts) == 1:
        return method
    return resplit(method, {name: (name,) for name in method.parts}, {})


def streams_of(run: Run, method: Method, watched: bool) -> tuple[Method, bool | None, Momenta]:
    """The method in the form that is trained, whether its streams are merged, and the optimizer's momenta."""
    if run.combine != "none":
        return unmerged(method), False, Momenta({STREAM: run.optimizer.base}, base=run.optimizer.base)
    apart = watched and run.optimizer.clip_streams is None  # what is clipped is not to depend on who looks
    method, merge = (unmerged(method), False) if apart else (method, merging(run, method))
    return method, merge, method.momenta(run.optimizer.base, merge)


def merging(run: Run, method: Method) -> bool | None:
    """Whether to join streams with equal momentum: as the config says, else wherever the optimizer says it is exact."""
    if run.merge is not None:
        return run.merge
    if run.combine != "none" or run.optimizer.clip_streams is not None:  # of a sum is another direction, another norm
        return False
    apart = method.momenta(run.optimizer.base, merge=False)
    return stream_optimizer(run, [nn.Parameter(torch.zeros(1, 1))], apart).merges_exactly


def grouped(optimizer: SGD | AdamW, student: nn.Module, module: nn.Module | None = None) -> Any:
    """What an optimizer is given: the parameters, in groups with rates and decays of their own if a rule asks for some.

    Args:
        optimizer: the config's.
        student: network that is trained.
        module: what the method learns; it is not decayed by ``decay="weights"``, and has the whole rate.

    Raises:
        ValueError: a student without parameters; ``layer_decay`` for a network whose depth is not known.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        >>> [(len(g["params"]), g.get("weight_decay")) for g in grouped(SGD(decay="weights"), net)]
        [(1, None), (3, 0.0)]
    """
    trained = [*student.parameters(), *(module.parameters() if module else ())]
    if next(student.parameters(), None) is None:
        raise ValueError(
            f"the student {type(student).__name__} has no parameters, so that nothing in it can be trained; quantised "
            f"layers hold none either: give the network in floating point"
        )
    if optimizer.decay == "all" and optimizer.layer_decay is None:
        return trained
    spared = undecayed(student) if optimizer.decay == "weights" else set()
    spared |= {id(p) for p in trained if p.ndim <= 1} if optimizer.decay == "weights" else set()
    depth = {} if optimizer.layer_decay is None else depths(student)
    names = {id(p): name for name, p in student.named_parameters()}
    last = max(depth.values(), default=0)
    found: dict[tuple[int, bool], dict[str, Any]] = {}
    for p in trained:
        below = last - depth.get(names.get(id(p), ""), last)
        found.setdefault((below, id(p) in spared), {"params": []})["params"].append(p)
    for (below, spare), group in found.items():
        if spare:
            group["weight_decay"] = 0.0
        if optimizer.layer_decay is not None:
            group["lr"] = optimizer.lr * optimizer.layer_decay**below
    return [found[key] for key in sorted(found)]  # the first one has the whole rate


def undecayed(student: nn.Module) -> set[int]:
    """Embeddings, by id: of ``nn.Embedding``, positions and tokens by name, and what the network says itself.

    timm's networks say it (``no_weight_decay``).
    """
    tables = {id(p) for m in student.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag) for p in m.parameters()}
    said = getattr(student, "no_weight_decay", None)
    listed = set(said()) if callable(said) else set()
    named = {
        id(p)
        for name, p in student.named_parameters()
        if name in listed or any(token in name.rpartition(".")[2] for token in TOKENS)
    }
    return tables | named


def depths(student: nn.Module) -> dict[str, int]:
    """The depth of every parameter by name, from 0 at the input.

    timm's networks know their own. Of others, the blocks must lie in one list: what comes before it in the network has
    depth 0, block i has i + 1, and what comes after has the largest.

    Raises:
        ValueError: there is no such list, or more than one.
    """
    if callable(matcher := getattr(student, "group_matcher", None)):
        from timm.models import group_parameters  # the network comes from there

        found: dict[str, int] = group_parameters(student, matcher(coarse=False), reverse=True)
        return found
    lists = _lists(student)
    if len(lists) != 1:
        what = f"{len(lists)} lists of blocks ({', '.join(lists)})" if lists else "no list of blocks"
        raise ValueError(
            f"optimizer.layer_decay: the depth of the layers of {type(student).__name__} is not known, in which {what} "
            f"was found where one was looked for (a ModuleList or Sequential of modules of one class); take a network "
            f"that has one, such as a vision transformer, or one of timm's, which know their depth"
        )
    ((path, blocks),) = lists.items()
    return _by_place(student, path, [f"{path}.{name}." for name, _ in blocks.named_children()])


def _by_place(student: nn.Module, path: str, blocks: list[str]) -> dict[str, int]:
    found, passed = {}, False
    for name, _ in student.named_parameters():
        inside = name.startswith(f"{path}.")
        passed = passed or inside
        block = next((i for i, start in enumerate(blocks) if name.startswith(start)), -1)
        found[name] = block + 1 if inside else (len(blocks) + 1) * passed
    return found


def _lists(net: nn.Module, path: str = "") -> dict[str, nn.Module]:
    """Outermost lists of at least two modules of one class that hold modules themselves."""
    children = list(net.children())
    is_list = isinstance(net, nn.ModuleList | nn.Sequential) and len(children) > 1 and path
    if is_list and len({type(m) for m in children}) == 1 and any(True for _ in children[0].children()):
        return {path: net}
    found: dict[str, nn.Module] = {}
    for name, child in net.named_children():
        found |= _lists(child, f"{path}.{name}" if path else name)
    return found


def factor(rate: LearningRate, epoch: int, epochs: int) -> float:
    """Learning rate of an epoch as a fraction of the base rate.

    For epoch e of E, with w epochs of warm-up from s, and t = e - 1 the epochs that are over,

        e <= w:  s + (1 - s) t / w
        cosine:  (1 + cos(pi (t - w) / (E - w))) / 2
        poly:    m + (1 - m) (1 - (t - w) / (E - w))^power, with the minimum m

    as torch's ``CosineAnnealingLR`` gives it: the first epoch has the whole rate, and 0 would come after the last one.
    A cosine that names a ``minimum`` follows most published code: t = e, and the last epoch has that minimum; with
    ``cosine_end="after"`` it is torch's again, from 1 to the minimum, which would come after the last epoch.

    Args:
        rate: the schedule.
        epoch: from 1.
        epochs: of the whole run.

    Example:
        >>> steps = LearningRate("step", milestones=(150, 180))
        >>> [round(factor(steps, e, 240), 4) for e in (150, 151, 181)]
        [1.0, 0.1, 0.01]
        >>> [round(factor(LearningRate("cosine"), e, 4), 4) for e in (1, 2, 3, 4)]
        [1.0, 0.8536, 0.5, 0.1464]
    """
    return _at(rate, epoch - 1, 1, epochs)


def _at(rate: LearningRate, before: float, length: float, epochs: int) -> float:
    """The factor of a stretch of training of that ``length``, when ``before`` epochs are over."""
    published = rate.schedule == "cosine" and rate.minimum and rate.cosine_end == "last"
    over = before + length if published else before
    if over < rate.warmup_epochs:
        return rate.warmup_start + (1 - rate.warmup_start) * over / rate.warmup_epochs
    if rate.schedule == "step":
        return rate.decay ** sum(milestone <= before for milestone in rate.milestones)
    if rate.schedule == "cosine" and epochs > rate.warmup_epochs:
        done = (over - rate.warmup_epochs) / (epochs - rate.warmup_epochs)
        return rate.minimum + (1 - rate.minimum) * (1 + math.cos(math.pi * done)) / 2
    if rate.schedule == "poly" and epochs > rate.warmup_epochs:
        left = 1 - (over - rate.warmup_epochs) / (epochs - rate.warmup_epochs)
        return rate.minimum + (1 - rate.minimum) * max(0.0, left) ** rate.power  # a run's end may come out below 0
    return 1.0


def check_rates(run: Run) -> None:
    """Refuse a rate that is 0 from the first step to the last; say what of its course a run is too short for."""
    rate, epochs = run.learning_rate, run.epochs
    short = rate.warmup_epochs > epochs or (rate.per == "epoch" and rate.warmup_epochs == epochs)
    if rate.per == "epoch" and not any(factor(rate, epoch, epochs) for epoch in range(1, epochs + 1)):
        raise ValueError(
            f"the learning rate is 0 in every epoch, so nothing would be trained: learning_rate.warmup_epochs="
            f"{rate.warmup_epochs} begins at warmup_start={rate.warmup_start:g} and the run has epochs={epochs}; "
            f"choose a larger warmup_start, fewer epochs of warm-up, or per=step"
        )
    late = [milestone for milestone in rate.milestones if milestone >= epochs]
    told = []
    if short:
        told.append(f"learning_rate.warmup_epochs={rate.warmup_epochs}, so the rate never reaches optimizer.lr")
    if late:
        told.append(f"learning_rate.milestones={list(rate.milestones)}, of which {late} never come")
    if told:
        warnings.warn(
            f"the run has epochs={epochs} and {' and '.join(told)}; choose smaller ones for a run of this length "
            f"(--epochs keeps their share of the run)",
            stacklevel=3,
        )


def scheduler(optimizer: torch.optim.Optimizer, rate: LearningRate, epochs: int, steps: int, done: int = 0) -> LambdaLR:
    """A scheduler to be stepped after every training step, standing where ``done`` steps are over.

    Whatever the optimizer's ``initial_lr`` says is the base rate, so a resumed run follows its config.

    Args:
        optimizer: whose rate is set.
        rate: the schedule.
        epochs: of the whole run.
        steps: per epoch.
        done: steps that are over.

    Example:
        >>> import torch
        >>> sgd = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        >>> rates = scheduler(sgd, LearningRate("cosine", per="step"), epochs=1, steps=2)
        >>> [round(sgd.param_groups[0]["lr"], 3)]
        [1.0]
    """
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])

    def at(step: int) -> float:
        if rate.per == "epoch":
            return factor(rate, step // steps + 1, epochs)
        return _at(rate, step / steps, 1 / steps, epochs)

    return LambdaLR(optimizer, at, last_epoch=done - 1)
