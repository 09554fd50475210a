"""Parameters that FSDP2 keeps in shards: their gradients, their memory on this process, their saved state.

``torch.distributed.tensor`` and ``torch.distributed.fsdp`` take seconds to import and are looked at only if somebody
has imported them: no tensor can be theirs otherwise.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeGuard

from torch import Tensor, nn

from .._spoken import spoken


def is_sharded(parameters: nn.Module | Sequence[Tensor]) -> bool:
    """Whether a module was given to ``fully_shard``, or a part of it; or whether a parameter is a DTensor.

    Between forward and backward an FSDP2 module shows plain parameters where it has not resharded, so that the
    parameters alone do not tell.
    """
    if isinstance(parameters, nn.Module) and _fsdp_modules(parameters):
        return True
    dtensor = _dtensor()
    return dtensor is not None and any(isinstance(p, dtensor.DTensor) for p in _listed(parameters))


def refuse_fsdp1(module: nn.Module) -> None:
    """Refuse what does not keep one gradient per parameter.

    Raises:
        ValueError: a part of the module is wrapped in FullyShardedDataParallel.
    """
    fsdp = sys.modules.get("torch.distributed.fsdp")
    if fsdp and any(isinstance(m, fsdp.FullyShardedDataParallel) for m in module.modules()):
        raise ValueError(
            "stream_grads: the module is wrapped in FullyShardedDataParallel, which flattens parameters and reduces "
            "gradients only in loss.backward(); shard it with torch.distributed.fsdp.fully_shard instead"
        )


def harvest(
    loss: Tensor, parameters: nn.Module | Sequence[Tensor], keep: bool
) -> tuple[list[Tensor], list[Tensor | None]]:
    """Differentiate one loss by a backward pass, in which FSDP reduces, and take the gradients off the parameters.

    Args:
        loss: a scalar; without a graph it leaves ``None`` everywhere.
        parameters: the sharded module, or sharded parameters.
        keep: keep the graph for the next stream.

    Returns:
        The parameters as shards, and a gradient (or ``None``) for each, laid out as its parameter.

    Raises:
        ValueError: a parameter that is not sharded, or that holds a gradient already.
    """
    _check_empty(_listed(parameters))
    if loss.requires_grad:
        loss.backward(retain_graph=keep)
    if isinstance(parameters, nn.Module):
        for m in _fsdp_modules(parameters):
            m.reshard()  # nothing where the backward pass has done so; the gradients are the shards'
    params = _listed(parameters)
    grads = [p.grad for p in params]
    for p in params:
        p.grad = None
    _check_sharded(params)
    return params, grads


def local(tensors: Iterable[Tensor], like: Sequence[Tensor] | None = None) -> list[Tensor]:
    """This process's part of every tensor, in the memory of the tensor; the tensor itself if it is not sharded.

    Args:
        tensors: under ``torch.no_grad``.
        like: parameters whose layout the tensors must have; those that differ are moved into it.
    """
    found, dtensor = list(tensors), _dtensor()
    if dtensor is None or not any(isinstance(x, dtensor.DTensor) for x in found):
        return found
    if like is not None:
        found = [_laid_out_as(p, x) for x, p in zip(found, like, strict=True)]
    return [x.to_local() if _is_dtensor(x) else x for x in found]


def whole(x: Tensor) -> Tensor:
    """All parts of a tensor put together; every process of its mesh has to ask."""
    return x.full_tensor() if _is_dtensor(x) else x


def summed(x: Tensor, like: Tensor) -> Tensor:
    """What every process computed of its part of a tensor such as ``like``, added up; ``x`` if that is not sharded."""
    dtensor = _dtensor()
    if dtensor is None or not _is_dtensor(like):
        return x
    parts = [dtensor.Partial() if place.is_shard() else dtensor.Replicate() for place in like.placements]
    return dtensor.DTensor.from_local(x, like.device_mesh, parts).full_tensor()


@spoken
def unsharded(state: Any, *, keep: bool = True) -> Any:
    """A state dict without shards: every DTensor whole, on the CPU, as one process would have saved it.

    Every process has to call it; one keeps the result and writes it. It loads into any number of processes:
    ``StreamSGD.load_state_dict`` takes the parts that its parameters need, and
    ``torch.distributed.checkpoint.state_dict.set_model_state_dict`` does so for a module.

    Args:
        state: ``state_dict()`` of a module or an optimizer: tensors in nested mappings, lists and tuples.
        keep: whether this process needs the result; it gets ``None`` for every tensor otherwise.

    Example:
        >>> net = nn.Linear(2, 1)
        >>> {name: tuple(x.shape) for name, x in unsharded(net.state_dict()).items()}
        {'weight': (1, 2), 'bias': (1,)}
    """
    if isinstance(state, Tensor):
        x = whole(state.detach())
        return x.cpu() if keep else None
    if isinstance(state, Mapping):
        return {key: unsharded(value, keep=keep) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(unsharded(value, keep=keep) for value in state)
    return state


def placed_as(p: Tensor, x: Tensor) -> Tensor:
    """A whole tensor divided as a sharded parameter is; as it was if there is nothing to divide."""
    dtensor = _dtensor()
    if dtensor is None or not _is_dtensor(p) or _is_dtensor(x):
        return x
    return dtensor.distribute_tensor(x.to(p.device), p.device_mesh, p.placements)


def _dtensor() -> Any:
    return sys.modules.get("torch.distributed.tensor")


def _is_dtensor(x: Tensor) -> TypeGuard[Any]:
    dtensor = _dtensor()
    return dtensor is not None and isinstance(x, dtensor.DTensor)


def _fsdp_modules(module: nn.Module) -> list[Any]:
    fsdp = sys.modules.get("torch.distributed.fsdp")
    return [m for m in module.modules() if isinstance(m, fsdp.FSDPModule)] if fsdp else []


def _listed(parameters: nn.Module | Sequence[Tensor]) -> list[Tensor]:
    return list(parameters.parameters() if isinstance(parameters, nn.Module) else parameters)


def _check_sharded(params: Sequence[Tensor]) -> None:
    plain = [list(p.shape) for p in params if p.requires_grad and not _is_dtensor(p)]
    if plain:
        raise ValueError(
            f"stream_grads: {len(plain)} of {len(params)} parameters are not sharded (the first is of shape "
            f"{plain[0]}), so that nobody would reduce their gradients. Shard them too, or pass the sharded module "
            f"itself: its parameters look unsharded between forward and backward"
        )


def _check_empty(parameters: Sequence[Tensor]) -> None:
    if any(p.grad is not None for p in parameters):
        raise ValueError(
            "stream_grads: a sharded parameter holds a gradient in p.grad, to which FSDP would add every stream's; "
            "set it to None first (optimizer.zero_grad())"
        )


def _laid_out_as(p: Tensor, x: Tensor) -> Tensor:
    if not (_is_dtensor(p) and _is_dtensor(x)) or x.placements == p.placements:
        return x
    return x.redistribute(p.device_mesh, p.placements)
