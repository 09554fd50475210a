"""The classes that no group lists: nearly all of them, so this is where the fused path spends its time.

A few rows at a time are worked on in a scratch buffer that stays in the cache.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

# Elements of one network's logits handled at once: 2 MiB of float32, measured best on CPUs with 1 to 2 MiB of L2 cache.
CHUNK = 1 << 19


def number(value: float, like: Tensor) -> Tensor:
    """``[1]`` tensor of the value: a Python number would be turned into a tensor and cast again at every use."""
    return _number(value, like.dtype, like.device)


@lru_cache(maxsize=256)
def _number(value: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor([value], dtype=dtype, device=device)


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
    size = min(n, max(1, CHUNK // c))
    dtype = torch.float64 if s.dtype == torch.float64 else torch.float32
    scratch = torch.empty(2, size, c, dtype=dtype, device=s.device)
    powers = torch.empty_like(scratch)
    per_t = number(1 / temperature, scratch)
    if size >= n:
        return _read(s, t, index, per_t, scratch, powers)
    best, total = (torch.empty(2, n, k, dtype=dtype, device=s.device) for k in (1, 1))
    gap = torch.empty(n, dtype=dtype, device=s.device)
    for start in range(0, n, size):
        m = min(size, n - start)
        rows = slice(start, start + m)
        part = None if index is None else index[rows]
        best[:, rows], total[:, rows, 0], gap[rows] = _read(
            s[rows], t[rows], part, per_t, scratch[:, :m], powers[:, :m]
        )
    return best, total[:, :, 0], gap


def _read(
    s: Tensor, t: Tensor, index: Tensor | None, per_t: Tensor, x: Tensor, e: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """One piece, in the scratch buffers ``x`` and ``e``."""
    x_t, x_s = x.unbind(0)
    x_t.copy_(t)
    x_s.copy_(s)
    if index is not None:
        x.scatter_(2, index.expand(2, -1, -1), -torch.inf)
    best = x.amax(2, keepdim=True)
    x.sub_(best).mul_(per_t)  # the maximum first: exact where 1 / T would blow it up
    total = torch.exp(x, out=e).sum(2)
    x_t.sub_(x_s)
    if index is not None:
        x_t.scatter_(1, index, 0.0)
    return best, total, x_t.mul_(e[0]).sum(1).div_(total[0])


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
    size = min(n, max(1, CHUNK // c))
    scratch = torch.empty(2, size, c, dtype=best.dtype, device=s.device)
    per_t, scale = number(1 / temperature, best), scale[:, :, None]
    if size >= n:
        _write(s, t, best, scale, per_t, scratch, out)
        return
    for start in range(0, n, size):
        m = min(size, n - start)
        rows = slice(start, start + m)
        _write(s[rows], t[rows], best[:, rows], scale[:, rows], per_t, scratch[:, :m], out[rows])


def _write(s: Tensor, t: Tensor, best: Tensor, scale: Tensor, per_t: Tensor, x: Tensor, out: Tensor) -> None:
    x_t, x_s = x.unbind(0)
    torch.sub(t, best[0], out=x_t)
    torch.sub(s, best[1], out=x_s)
    x.mul_(per_t).exp_()
    x_s.mul_(scale[1])
    torch.addcmul(x_s, x_t, scale[0], value=-1, out=out if out.dtype == x.dtype else x_s)
    if out.dtype != x.dtype:
        out.copy_(x_s)
