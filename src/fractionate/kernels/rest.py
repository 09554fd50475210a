"""The classes that no group lists: nearly all of them, so this is where the fused path spends its time.

A few rows at a time are worked on in scratch buffers that stay in the cache, with as few passes as torch's operations
allow. A batch that fits as a whole is bound by the number of calls instead: it is read once, and its exponentials kept.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

# Elements of one network's logits handled at once: 0.5 MiB of float32. Four times as much was as fast within the
# spread where a core has 1 MiB of L2 cache, a quarter of it was slower by 20 to 70 %.
CHUNK = 1 << 17
# Up to this many elements per network (0.25 MiB of float32), the number of calls costs more than passes over memory.
KEEP = 1 << 16
# exp of it adds nothing to a sum of at least 1, in float64 neither, and is a normal number: subnormal ones are slow.
NOTHING = -80.0
# In place of -inf, by which a user masks a class in both networks: their difference must be 0 there, and no NaN.
MASKED = -1e30


def number(value: float, like: Tensor) -> Tensor:
    """``[1]`` tensor of the value: a Python number would be turned into a tensor and cast again at every use."""
    return _number(value, like.dtype, like.device)


@lru_cache(maxsize=256)
def _number(value: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor([value], dtype=dtype, device=device)


@lru_cache(maxsize=256)
def _absent(dtype: torch.dtype, temperature: float) -> float:
    """A logit so low that its exponential is 0; finite, so that differences and products with it are no NaN."""
    return torch.finfo(dtype).min / 4 * min(1.0, temperature)


def wide(dtype: torch.dtype) -> torch.dtype:
    """What these logits are computed in."""
    return torch.float64 if dtype == torch.float64 else torch.float32


class Look(NamedTuple):
    """What one look at both logits gives, teacher first.

    Largest logit of the rest ``[2, n, 1]``, log-sum-exp of the rest relative to it ``[2, n]``, KL inside the rest
    ``[n]`` (no T^2), logits of the listed classes ``[2, n, m]``, softmax of the rest ``[2, n, c]`` where it is kept.
    """

    best: Tensor
    log_total: Tensor
    inside: Tensor
    picked: Tensor | None
    kept: Tensor | None = None


def read_small(s: Tensor, t: Tensor, index: Tensor | None, temperature: float) -> Look:
    """A batch that fits as a whole, in as few calls as possible."""
    x = torch.stack((t, s)).to(wide(s.dtype))
    picked = None
    if index is not None:
        both = index.expand(2, -1, -1)
        picked = x.gather(2, both)
        x.scatter_(2, both, _absent(x.dtype, temperature))
    best = x.amax(2, keepdim=True)
    x.sub_(best).mul_(number(1 / temperature, x))
    if index is not None:
        x.scatter_(2, both, NOTHING)
    logs = x.clamp_(min=MASKED).log_softmax(2)
    # The largest difference is 0, so minus the largest log-probability is the log-sum-exp.
    log_total = logs.amax(2).neg_()
    kept = logs.exp()
    l_t, l_s = logs.unbind(0)
    return Look(best, log_total, l_t.sub_(l_s).mul_(kept[0]).sum(1), picked, kept)


def write_small(kept: Tensor, by_t: Tensor, by_s: Tensor) -> Tensor:
    """``[n, c]`` by_s q_s - by_t q_t; what was kept may serve another backward pass, so it is not overwritten."""
    q_t, q_s = kept.unbind(0)
    return (q_s * by_s).addcmul_(q_t, by_t, value=-1)


def read_rest(s: Tensor, t: Tensor, index: Tensor | None, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """What the rest group needs from one look at the logits, teacher first.

    Args:
        s: ``[n, c]`` student logits.
        t: ``[n, c]`` teacher logits.
        index: ``[n, m]`` classes that are not in the rest.
        temperature: T.

    Returns:
        Largest logits ``[2, n, 1]``, sums of exp((z - largest) / T) ``[2, n]``, and the teacher's mean ``[n]`` of the
        difference of the two exponents.
    """
    n, c = s.shape
    size, dtype = max(1, min(n, CHUNK // c)), wide(s.dtype)
    scratch = torch.empty(2, size, c, dtype=dtype, device=s.device)
    gaps = torch.empty(size, c, dtype=dtype, device=s.device)
    best, total = (torch.empty(2, n, k, dtype=dtype, device=s.device) for k in (1, 1))
    gap = torch.empty(n, dtype=dtype, device=s.device)
    both = None if index is None else index.expand(2, -1, -1)
    for start in range(0, n, size):
        stop = min(n, start + size)
        x = scratch[:, : stop - start]
        x[0].copy_(t[start:stop])
        x[1].copy_(s[start:stop])
        best[:, start:stop], total[:, start:stop, 0], gap[start:stop] = _read(
            x, None if both is None else both[:, start:stop], temperature, gaps[: stop - start]
        )
    return best, total[:, :, 0], gap


def write_rest(s: Tensor, t: Tensor, best: Tensor, scale: Tensor, temperature: float, out: Tensor) -> None:
    """out = scale_s exp((s - best_s) / T) - scale_t exp((t - best_t) / T).

    Args:
        s: ``[n, c]`` student logits.
        t: ``[n, c]`` teacher logits.
        best: ``[2, n, 1]`` from :func:`read_rest`.
        scale: ``[2, n]`` factors, teacher first.
        temperature: T.
        out: ``[n, c]``; classes outside the rest get numbers without meaning, to be overwritten.
    """
    n, c = s.shape
    size = max(1, min(n, CHUNK // c))
    scratch = torch.empty(2, size, c, dtype=best.dtype, device=s.device)
    factors = scale[:, :, None]
    for start in range(0, n, size):
        stop = min(n, start + size)
        x = scratch[:, : stop - start]
        _scaled(t[start:stop], best[0, start:stop], temperature, x[0])
        _scaled(s[start:stop], best[1, start:stop], temperature, x[1])
        _write(x.exp_(), factors[:, start:stop], out[start:stop])


def _write(x: Tensor, scale: Tensor, out: Tensor) -> None:
    x_t, x_s = x.unbind(0)
    x_s.mul_(scale[1])
    if out.dtype == x.dtype:
        torch.addcmul(x_s, x_t, scale[0], value=-1, out=out)
    else:
        out.copy_(x_s.addcmul_(x_t, scale[0], value=-1))


def _read(x: Tensor, both: Tensor | None, temperature: float, gaps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One piece; the logits in ``x`` become exp((z - largest) / T), ``gaps`` is a buffer of half the size."""
    if both is not None:
        x.scatter_(2, both, _absent(x.dtype, temperature))
    best = x.amax(2, keepdim=True)
    _scaled(x, best, temperature, x)
    x.clamp_(min=MASKED)
    torch.sub(x[0], x[1], out=gaps)
    total = x.exp_().sum(2)
    return best, total, gaps.mul_(x[0]).sum(1).div_(total[0])


def _scaled(z: Tensor, best: Tensor, temperature: float, out: Tensor) -> None:
    """out = (z - best) / T; the maximum first where 1 / T would round what is large, in one pass where it does not."""
    if temperature == 1:
        torch.sub(z, best, out=out)
    elif math.frexp(temperature)[0] == 0.5:  # a power of two
        torch.add(best * number(-1 / temperature, best), z, alpha=1 / temperature, out=out)
    else:
        torch.sub(z, best, out=out).mul_(number(1 / temperature, best))
