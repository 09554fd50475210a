"""CUDA kernels of the fused split, in Triton: each pass reads every logit once, whatever the partition.

They replace what :mod:`.fused` does with the rest, the classes that no group lists; formulas and saved statistics are
the same, in float32. One program reads a row in blocks of classes. When a block raises a maximum, the sums so far move
to the new one: sums of exponentials fade by exp((old - new) / T), and the teacher-weighted sum of gaps
(t - max t) - (s - max s), which changes by the same amount in every class, is shifted before it fades.

Of the other directions, reverse KL is read by the same kernel with both networks swapped. A mixture needs the masses
first, so it looks a second time. Gradients are exponentials of the student times a tilt; formulas as in directed.c.

Importable without Triton (then ``AVAILABLE`` is false and nothing here can be called).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

try:
    import triton
    import triton.language as tl

    AVAILABLE = True
except ImportError:
    AVAILABLE = False

# Classes of one row handled at once, 8 per thread: 64 registers on sm_90, so 32 warps at once wait for memory.
BLOCK = 2048


def _jit(function: Callable[..., Any]) -> Any:
    return triton.jit(function) if AVAILABLE else function


@_jit
def _load(row: tl.tensor, step: tl.tensor, classes: tl.tensor, c: tl.tensor, absent: tl.constexpr) -> tl.tensor:
    """These classes of one row in float32; ``absent`` beyond the last one, and for -inf."""
    inside = classes < c
    z = tl.load(row + classes.to(tl.int64) * step, mask=inside, other=0.0).to(tl.float32)
    return tl.where(inside & (z != float("-inf")), z, absent)


@_jit
def _moved(
    sum_t: tl.tensor, sum_s: tl.tensor, sum_gap: tl.tensor, down_t: tl.tensor, down_s: tl.tensor, rate: tl.tensor
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """The sums of teacher, student and gaps after their maxima rose by -down_t and -down_s."""
    fade_t = tl.exp2(down_t * rate)
    # While nothing is summed there is nothing to shift, and the way up from the first maximum would swamp the rest.
    shift = tl.where(down_t > -1e37, down_t - down_s, 0.0)
    return sum_t * fade_t, sum_s * tl.exp2(down_s * rate), (sum_gap + sum_t * shift) * fade_t


@_jit
def _read_kernel(
    student: tl.tensor,
    teacher: tl.tensor,
    index: tl.tensor,
    stats: tl.tensor,
    n: tl.tensor,
    c: tl.tensor,
    s_row: tl.tensor,
    s_class: tl.tensor,
    t_row: tl.tensor,
    t_class: tl.tensor,
    inverse: tl.tensor,
    listed: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """One row: maxima, sums of exponentials, and the teacher's mean gap over the classes that are not listed."""
    row = tl.program_id(0).to(tl.int64)
    rate = inverse * 1.4426950408889634  # log2(e) / T: exp((x - max) / T) = 2 ** ((x - max) rate)
    # Below every logit, and a class that does not count below that: finite, so no inf - inf appears.
    best_t = -1e38
    best_s = -1e38
    absent: tl.constexpr = -2e38
    sum_t = tl.zeros([block], tl.float32)
    sum_s = tl.zeros([block], tl.float32)
    sum_gap = tl.zeros([block], tl.float32)
    for start in range(0, c, block):
        classes = start + tl.arange(0, block)
        t = _load(teacher + row * t_row, t_class, classes, c, absent)
        s = _load(student + row * s_row, s_class, classes, c, absent)
        for j in tl.static_range(listed):
            member = tl.load(index + row * listed + j).to(tl.int32)
            # Few blocks hold a listed class: the others pay one comparison of two numbers.
            if (member >= start) & (member < start + block):
                t = tl.where(classes == member, absent, t)
                s = tl.where(classes == member, absent, s)
        new_t = tl.maximum(best_t, tl.max(t, 0))
        new_s = tl.maximum(best_s, tl.max(s, 0))
        if (new_t > best_t) | (new_s > best_s):
            sum_t, sum_s, sum_gap = _moved(sum_t, sum_s, sum_gap, best_t - new_t, best_s - new_s, rate)
            best_t = new_t
            best_s = new_s
        x_t = t - best_t
        x_s = s - best_s
        e_t = tl.exp2(x_t * rate)
        sum_t += e_t
        sum_s += tl.exp2(x_s * rate)
        sum_gap += e_t * (x_t - x_s)
    total_t = tl.sum(sum_t, 0)
    tl.store(stats + row, best_t)
    tl.store(stats + n + row, best_s)
    tl.store(stats + 2 * n + row, total_t)
    tl.store(stats + 3 * n + row, tl.sum(sum_s, 0))
    tl.store(stats + 4 * n + row, tl.sum(sum_gap, 0) * inverse / total_t)


@_jit
def _mixed(
    p: tl.tensor, q: tl.tensor, by: tl.tensor, n: tl.tensor, of_log: tl.tensor
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """log p/M and log q/M inside the rest, and the tilt; finite numbers where both are too small to count."""
    by_t = tl.load(by)
    by_s = tl.load(by + n)
    inverse = 1.0 / tl.maximum(by_t * p + by_s * q, 1e-30)
    of_p = p * tl.load(by + 2 * n) * inverse
    of_q = q * inverse
    log_q = tl.log(tl.maximum(of_q, 1e-37))
    tilt = of_log * log_q - tl.load(by + 3 * n) * of_p - tl.load(by + 4 * n) * of_q
    return tl.log(tl.maximum(of_p, 1e-37)), log_q, tilt


@_jit
def _look_kernel(
    student: tl.tensor,
    teacher: tl.tensor,
    index: tl.tensor,
    best: tl.tensor,
    by: tl.tensor,
    stats: tl.tensor,
    n: tl.tensor,
    c: tl.tensor,
    s_row: tl.tensor,
    s_class: tl.tensor,
    t_row: tl.tensor,
    t_class: tl.tensor,
    inverse: tl.tensor,
    of_log: tl.tensor,
    listed: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """One row against a mixture: sums of p log p/M, q log q/M and q times the tilt, p and q being exponentials."""
    row = tl.program_id(0).to(tl.int64)
    rate = inverse * 1.4426950408889634
    best_t = tl.load(best + row)
    best_s = tl.load(best + n + row)
    sum_p = tl.zeros([block], tl.float32)
    sum_q = tl.zeros([block], tl.float32)
    sum_tilt = tl.zeros([block], tl.float32)
    for start in range(0, c, block):
        classes = start + tl.arange(0, block)
        t = _load(teacher + row * t_row, t_class, classes, c, -2e38)
        s = _load(student + row * s_row, s_class, classes, c, -2e38)
        for j in tl.static_range(listed):
            member = tl.load(index + row * listed + j).to(tl.int32)
            if (member >= start) & (member < start + block):
                t = tl.where(classes == member, -2e38, t)
                s = tl.where(classes == member, -2e38, s)
        p = tl.exp2((t - best_t) * rate)
        q = tl.exp2((s - best_s) * rate)
        log_p, log_q, tilt = _mixed(p, q, by + row, n, of_log)
        sum_p += p * log_p
        sum_q += q * log_q
        sum_tilt += q * tilt
    tl.store(stats + row, tl.sum(sum_p, 0))
    tl.store(stats + n + row, tl.sum(sum_q, 0))
    tl.store(stats + 2 * n + row, tl.sum(sum_tilt, 0))


@_jit
def _write_kernel(
    student: tl.tensor,
    teacher: tl.tensor,
    best: tl.tensor,
    by: tl.tensor,
    scale: tl.tensor,
    out: tl.tensor,
    n: tl.tensor,
    c: tl.tensor,
    s_row: tl.tensor,
    s_class: tl.tensor,
    t_row: tl.tensor,
    t_class: tl.tensor,
    out_row: tl.tensor,
    out_class: tl.tensor,
    inverse: tl.tensor,
    of_log: tl.tensor,
    way: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """One block of one row, with x = exp((. - max) / T): forward b x_s - a x_t, else x_s (a + b tilt)."""
    row = tl.program_id(0).to(tl.int64)
    classes = tl.program_id(1) * block + tl.arange(0, block)
    at = classes.to(tl.int64)
    inside = classes < c
    rate = inverse * 1.4426950408889634
    t = tl.load(teacher + row * t_row + at * t_class, mask=inside, other=0.0).to(tl.float32) - tl.load(best + row)
    s = tl.load(student + row * s_row + at * s_class, mask=inside, other=0.0).to(tl.float32) - tl.load(best + n + row)
    q = tl.exp2(s * rate)
    a = tl.load(scale + row)
    b = tl.load(scale + n + row)
    if way == 0:
        grad = b * q - a * tl.exp2(t * rate)
    elif way == 1:
        grad = q * (a + b * tl.where(q > 0, (s - t) * inverse, 0.0))
    else:
        _, _, tilt = _mixed(tl.exp2(t * rate), q, by + row, n, of_log)
        grad = q * (a + b * tilt)
    tl.store(out + row * out_row + at * out_class, grad, mask=inside)


def _launch(c: int) -> dict[str, int]:
    block = min(BLOCK, triton.next_power_of_2(c))
    return {"block": block, "num_warps": max(1, block // 256)}


def read_rest(s: Tensor, t: Tensor, index: Tensor | None, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """Over the rest: maxima [2, n, 1], sums of exponentials [2, n], the teacher's mean of (t - s) / T [n]."""
    n, c = s.shape
    stats = torch.empty(5, n, dtype=torch.float32, device=s.device)
    listed = 0 if index is None else index.shape[1]
    where = stats if index is None else index.contiguous()  # without listed classes it is never read
    if n:
        with torch.cuda.device_of(s):
            _read_kernel[(n,)](
                s, t, where, stats, n, c, *s.stride(), *t.stride(), 1 / temperature, listed=listed, **_launch(c)
            )
    return stats[:2, :, None], stats[2:4], stats[4]


def write_rest(s: Tensor, t: Tensor, best: Tensor, scale: Tensor, temperature: float, out: Tensor) -> None:
    """out = scale_s exp((s - max) / T) - scale_t exp((t - max) / T); listed classes get garbage, overwritten later."""
    _write((s, t, best, scale, scale), out, 1 / temperature, 0.0, 0)


def look_rest(
    s: Tensor, t: Tensor, index: Tensor | None, best: Tensor, by: Tensor, of_log: float, temperature: float
) -> Tensor:
    """Against a mixture, over the rest: sums ``[3, n]`` of p log p/M, q log q/M and q times the tilt.

    Args:
        s, t, index, temperature: as in :func:`read_rest`.
        best: ``[2, n, 1]`` maxima, teacher first.
        by: ``[5, n]`` factors of p and q in M, of p to make it a share, and of both shares in the tilt.
        of_log: factor of log q/M in the tilt.
    """
    n, c = s.shape
    stats = torch.empty(3, n, dtype=torch.float32, device=s.device)
    listed = 0 if index is None else index.shape[1]
    where = stats if index is None else index.contiguous()
    if n:
        with torch.cuda.device_of(s):
            strides = (*s.stride(), *t.stride())
            _look_kernel[(n,)](
                *(s, t, where, best.contiguous(), by, stats, n, c, *strides, 1 / temperature, of_log),
                listed=listed,
                **_launch(c),
            )
    return stats


def write_tilted(
    s: Tensor, t: Tensor, best: Tensor, by: Tensor | None, of_log: float, scale: Tensor, temperature: float, out: Tensor
) -> None:
    """out = exp((s - max) / T) (a + b tilt), a and b in ``scale`` [2, n]; ``by`` is None for reverse KL."""
    given = (s, t, best, scale if by is None else by, scale)
    _write(given, out, 1 / temperature, of_log, 1 if by is None else 2)


def _write(given: tuple[Tensor, ...], out: Tensor, inverse: float, of_log: float, way: int) -> None:
    """The kernel over all blocks of all rows: forward (0), reverse (1) or against a mixture (2)."""
    s, t, *numbers = given
    (n, c), options = s.shape, _launch(s.shape[1])
    if n:
        with torch.cuda.device_of(s):
            strides = (*s.stride(), *t.stride(), *out.stride())
            _write_kernel[(n, triton.cdiv(c, options["block"]))](
                *(s, t, *(x.contiguous() for x in numbers), out, n, c, *strides, inverse, of_log), way=way, **options
            )
