"""TopKD's parts: a scaling of the teacher's top logits, cosines on three groups, a contrast of whole logit vectors.

Only the outline is published; every constant and every detail here is a reconstruction.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from .._choices import choose
from .._spoken import spoken
from .._typing import Float, Int
from ..kernels import need_k, top_classes, widen

Scaling = Literal["sign_safe", "literal"]
SCALINGS: tuple[Scaling, ...] = ("sign_safe", "literal")
SHORT = 1e-8  # vectors below this norm have no direction


@spoken
def scale_top(
    teacher: Float[Tensor, "n c"],
    target: Int[Tensor, " n"],
    *,
    k: int = 5,
    gamma: float = 0.5,
    lam: float = 0.1,
    kappa: float = 0.5,
    scaling: Scaling = "sign_safe",
    ranking: Float[Tensor, "n c"] | None = None,
) -> Float[Tensor, "n c"]:
    """Raise the teacher's k largest logits and the label, by rank; leave the others as they are.

    With v the logits, I their k largest, r_i = 0..k-1 the rank, Delta = lam (mean over I - mean over the others):
    w_i = 1 + gamma (k - r_i) / k on I, w_y = 1 + gamma + kappa if the best class is not the label, and on I and y

        v'_i = v_i + (w_i - 1) |v_i| + Delta   (``"sign_safe"``)      v'_i = w_i v_i + Delta   (``"literal"``)

    The literal product lowers a negative logit of the label; the sign-safe form never does, and both agree where the
    logits are not negative. The label need not become the best class.

    Args:
        teacher: ``[n, c]`` raw logits.
        target: ``[n]`` labels.
        k: 1..c-1.
        gamma, lam, kappa: strengths, all a reconstruction.
        scaling: the form of the product.
        ranking: ``[n, c]`` logits that rank the classes, if not ``teacher``.

    Returns:
        ``[n, c]``; float16 and bfloat16 become float32.

    Source: arXiv 2508.04539 (TSM), reconstruction: only the outline could be read.

    Example:
        >>> v = torch.tensor([[4.0, 2.0, 0.0]])
        >>> scale_top(v, torch.tensor([0]), k=1, lam=0.0)
        tensor([[6., 2., 0.]])
    """
    choose("scaling", scaling, SCALINGS)
    c = teacher.shape[1]
    need_k("scale_top", k, 1, c - 1)
    v = widen(teacher)
    best = top_classes(teacher if ranking is None else ranking, k)
    label = target[:, None]
    raised = torch.cat([best, label], 1)  # the label may be named twice, with one value
    z = v.gather(1, raised)
    top = z[:, :k].sum(1, keepdim=True)
    delta = lam * (top / k - (v.sum(1, keepdim=True) - top) / (c - k))
    boost = _boosts(best, label, gamma, kappa, v.dtype)
    return v.scatter(1, raised, z + boost * (z.abs() if scaling == "sign_safe" else z) + delta)


def _boosts(best: Tensor, label: Tensor, gamma: float, kappa: float, dtype: torch.dtype) -> Tensor:
    """``[n, k + 1]`` w - 1 of the k best classes and of the label; the label's own where it is among them."""
    k = best.shape[1]
    by_rank = (gamma * torch.arange(k, 0, -1, device=best.device, dtype=dtype) / k).expand(len(best), -1)
    own = torch.where(best[:, :1] == label, by_rank[:, :1], torch.full_like(by_rank[:, :1], gamma + kappa))
    return torch.cat([torch.where(best == label, own, by_rank), own], 1)


@spoken
def top_cosine(
    student: Float[Tensor, "n c"],
    scaled: Float[Tensor, "n c"],
    ranking: Float[Tensor, "n c"],
    *,
    k: int = 5,
    alpha: float = 2.0,
    beta: float = 1.0,
    center: bool = False,
) -> Float[Tensor, " n"]:
    """alpha (1 - cos on the k largest) + beta (1 - cos on the k smallest) + (1 - cos on the others).

    Each cosine is between the student's logits and the scaled teacher's on one group, so every group has a free
    scale and the term needs an anchor such as the cross-entropy. A group without classes (2 k = c) contributes 0; a
    vector shorter than 1e-8 has cosine 0 and gradient 0.

    Args:
        student: ``[n, c]`` logits.
        scaled: ``[n, c]`` teacher logits, for example from :func:`scale_top`.
        ranking: ``[n, c]`` raw teacher logits, which make the groups.
        k: 1..c/2.
        alpha, beta: weights of the largest and the smallest (reconstruction).
        center: subtract the row means first: unlike a softmax, a cosine depends on the origin of the logits.

    Source: arXiv 2508.04539 (TDL), reconstruction: only the outline could be read.

    Example:
        >>> z = torch.tensor([[4.0, 2.0, 1.0, -3.0]])
        >>> bool(top_cosine(3 * z, z, z, k=1)[0] < 1e-6)
        True
    """
    c = student.shape[1]
    if k < 1 or 2 * k > c:
        raise ValueError(f"top_cosine: k must be an integer in 1..{c // 2} (2 k <= c={c}), got {k!r}")
    z, v = widen(student), widen(scaled)
    if center:
        z, v = z - z.mean(1, keepdim=True), v - v.mean(1, keepdim=True)
    top = top_classes(ranking, k)
    # From the other end of the row, so that of equal logits the last ones are the smallest and none is in both groups.
    bottom = c - 1 - top_classes(ranking.flip(1), k, largest=False)
    loss = alpha * _apart(z.gather(1, top), v.gather(1, top)) + beta * _apart(z.gather(1, bottom), v.gather(1, bottom))
    both = torch.cat([top, bottom], 1)
    return loss + _apart(z.scatter(1, both, 0.0), v.scatter(1, both, 0.0)) if 2 * k < c else loss


@spoken
def logit_contrast(
    student: Float[Tensor, "n c"],
    teacher: Float[Tensor, "n c"],
    *,
    tau: float = 0.07,
    weight: Float[Tensor, " n"] | None = None,
) -> Float[Tensor, " n"]:
    """Each row's student and teacher must find each other among the rows of the batch, in both directions.

    1/2 [ CE(A / tau, own row) + CE(A^T / tau, own row) ], A the cosines of all student rows with all teacher rows.
    Rows of one class are negatives of each other, and each process contrasts its own rows only.

    Args:
        student, teacher: ``[n, c]`` raw logits.
        tau: temperature (reconstruction).
        weight: ``[n]`` how often each row counts as a candidate; one of weight 0 is not there.

    Returns:
        ``[n]``; 0 for a batch of one row.

    Source: arXiv 2508.04539 (the contrastive term), reconstruction: only the outline could be read.

    Example:
        >>> z = torch.eye(3)
        >>> bool((logit_contrast(z, z) < logit_contrast(z, z.flip(0))).any())
        True
    """
    if len(student) < 2:
        return widen(student).sum(1) * 0.0
    s, t = _unit(widen(student)), _unit(widen(teacher.detach()))
    with torch.autocast(s.device.type, enabled=False):  # a half-precision product would undo the float32 rows
        similarity = s @ t.T / tau
    own = similarity.diagonal()
    if weight is None:
        return (similarity.logsumexp(1) + similarity.logsumexp(0)) / 2 - own
    times = _log_share(weight.to(s.dtype))
    return ((similarity + times).logsumexp(1) + (similarity + times[:, None]).logsumexp(0)) / 2 - own


def _log_share(weight: Tensor) -> Tensor:
    """Logarithm of the weights relative to the mean of those above 0; zeros if there are none."""
    counted = weight > 0
    mean = weight.sum() / counted.sum().clamp(min=1)
    return torch.where(counted.any(), (weight / mean.masked_fill(mean == 0, 1.0)).log(), torch.zeros_like(weight))


def _apart(a: Tensor, b: Tensor) -> Tensor:
    """1 - cosine of each row."""
    return 1 - (_unit(a) * _unit(b)).sum(1)


def _unit(a: Tensor) -> Tensor:
    """Rows of norm 1; rows shorter than 1e-8 become constants, since their direction is noise."""
    norm = a.detach().norm(dim=1, keepdim=True)
    short = norm < SHORT
    square = a.square().sum(1, keepdim=True).masked_fill(short, 1.0)
    return torch.where(short, a.detach() / SHORT, a / square.sqrt())
