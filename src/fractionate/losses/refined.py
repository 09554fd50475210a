"""RLD's two terms: the teacher's confidence for the label, and the order below the label."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .._typing import Bool, Float, Int
from ..rows import Logits
from .partition import need_classes
from .ranking import top_classes
from .split import widen


def sample_confidence(lg: Logits, temperature: float = 1.0) -> Float[Tensor, " n"]:
    """T^2 KL( (max p^T, 1 - max p^T) || (p^S_y, 1 - p^S_y) ): how sure the teacher is, carried to the label.

    From log-odds, so values and gradients are finite for every finite logit.

    Args:
        lg: rows with labels.
        temperature: T.

    Source: arXiv 2408.07703 (SCD).

    Example:
        >>> z = torch.tensor([[3.0, 1.0, 0.0]])
        >>> bool(sample_confidence(Logits(z, z, torch.tensor([0])))[0] == 0)
        True
    """
    teacher = _log_odds(widen(lg.teacher), top_classes(lg.rank_by, 1), temperature)
    student = _log_odds(widen(lg.student), lg.labels[:, None], temperature)
    log_t, log_rest_t = F.logsigmoid(teacher), F.logsigmoid(-teacher)
    log_s, log_rest_s = F.logsigmoid(student), F.logsigmoid(-student)
    kl = log_t.exp() * (log_t - log_s) + log_rest_t.exp() * (log_rest_t - log_rest_s)
    return temperature**2 * kl


def _log_odds(z: Tensor, of: Int[Tensor, "n 1"], temperature: float) -> Tensor:
    """log p / (1 - p) of one class per row."""
    x = (z - z.detach().amax(1, keepdim=True)) / temperature
    chosen = torch.zeros_like(x, dtype=torch.bool).scatter(1, of, True)
    return x.gather(1, of)[:, 0] - x.masked_fill(chosen, -torch.inf).logsumexp(1)


def below_target(lg: Logits) -> Bool[Tensor, "n c"]:
    """Classes that the teacher puts strictly below the label; none where the label is the teacher's minimum.

    Args:
        lg: rows with labels.

    Source: arXiv 2408.07703 (MCD).

    Example:
        >>> lg = Logits(torch.zeros(1, 4), torch.tensor([[1.0, 3.0, 2.0, 2.0]]), torch.tensor([2]))
        >>> below_target(lg)
        tensor([[ True, False, False, False]])
    """
    need_classes("below_target", lg.classes, 3)
    return lg.rank_by < lg.rank_by.gather(1, lg.labels[:, None])
