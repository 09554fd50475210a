"""Distillation of language models from hidden states: no [tokens, vocabulary] logits of the student, ever."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from .._spoken import spoken
from .._typing import Bool, Float, Int
from ..kernels import widen
from ..losses import SampledLogits, TopLogits
from ..methods.method import Method
from ..methods.streams import merged_streams
from ..rows import Logits, Progress, can_look
from ..rows.checks import check_tensor, check_weight, labels_from, weights_from
from .sums import linear_sums
from .teachers import Head, Teacher, check_teacher, flat_teacher, on_sampled_logits, on_top_logits


class LinearRows:
    """Checked arguments of a linear loss, one row per token; see :func:`linear_loss` for what they mean."""

    def __init__(
        self,
        method: Method,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        target: Any,
        row_weight: Tensor | None,
        ignore_index: int | None,
        teacher: Teacher,
        head: Head,
        sequence: Tensor | None,
    ) -> None:
        _check_method(method)
        for name, x in (("hidden", hidden), ("weight", weight)):
            check_tensor("linear loss", name, x)
        target = labels_from(target, hidden)
        row_weight = None if row_weight is None else weights_from("row_weight", row_weight, hidden)
        _check_shapes(hidden, weight, bias, target, row_weight)
        self.method, self.head = method, head
        self.weight = head.cut("the student's", weight)
        self.bias = None if bias is None else head.cut("the student's", bias)
        self.hidden, self.target = hidden.reshape(-1, hidden.shape[-1]), None if target is None else target.reshape(-1)
        self.teacher = flat_teacher(teacher, hidden.shape[:-1], len(self.weight), head)
        check_teacher(method, self.teacher)
        kept = torch.ones(hidden.shape[:-1], dtype=torch.bool, device=hidden.device)
        if ignore_index is not None and target is not None:
            kept = target != ignore_index
        check_weight(row_weight)
        if sequence is not None:
            wide = torch.float64 if hidden.dtype == torch.float64 else torch.float32
            one = torch.ones(kept.shape, dtype=wide, device=hidden.device)
            row_weight = sequence_weights(sequence, kept, one if row_weight is None else row_weight)
        self.row_weight = None if row_weight is None else row_weight.reshape(-1)
        # Dropped by index, chunk by chunk: a mask would copy dense teacher logits, the largest tensor there is.
        self.rows = kept.reshape(-1).nonzero()[:, 0]

    def means(
        self,
        losses: Callable[[Method, Logits], Mapping[str, Tensor]],
        names: tuple[str, ...],
        chunk: int,
        count: float | Tensor | None,
    ) -> dict[str, Tensor]:
        """Means over the kept tokens of all chunks."""

        def sums(logits: Tensor, part: Tensor) -> dict[str, Tensor]:
            method, lg = self._seen(logits, part)
            total = lg.rows if lg.weight is None else lg.weight.sum()
            return {name: x * total for name, x in losses(method, lg).items()}

        found = linear_sums(sums, names, self.hidden, self.weight, self.bias, self.rows, chunk)
        by = self._total() if count is None or not len(self.rows) else _count(count)
        return {name: x / by for name, x in found.items()}

    def _seen(self, logits: Tensor, part: Tensor) -> tuple[Method, Logits]:
        """The rows of one chunk, and the method as it works on this kind of teacher."""
        logits, weight = self.head(logits), None if self.row_weight is None else self.row_weight[part]
        target = None if self.target is None else self.target[part]
        if isinstance(self.teacher, TopLogits | SampledLogits):
            # The teacher in the rows is not read.
            lg, some = Logits(logits, logits, target, weight=weight), self.teacher[part]
            on = (
                on_top_logits(self.method, some)
                if isinstance(some, TopLogits)
                else on_sampled_logits(self.method, some)
            )
            return on, lg
        teacher = self.teacher[part] if isinstance(self.teacher, Tensor) else self.teacher.dense(part)
        dtype = torch.promote_types(logits.dtype, teacher.dtype)
        return self.method, Logits(logits.to(dtype), teacher.to(dtype), target, weight=weight)

    def _total(self) -> Tensor | int:
        if self.row_weight is None:
            return max(1, len(self.rows))
        total = self.row_weight[self.rows].sum()
        return torch.where(total == 0, torch.ones_like(total), total)


@spoken
def sequence_weights(
    sequence: Int[Tensor, ...], kept: Bool[Tensor, ...], weight: Float[Tensor, ...] | None = None
) -> Float[Tensor, ...]:
    """Weights under which every packed sequence counts alike: they sum to 1 over the kept tokens of each.

    Args:
        sequence: ``[b, t]`` (or ``[n]``) number of the sequence of every token; a number in two rows of the batch means
            two sequences. From position numbers that start again: ``(position_ids == 0).cumsum(1)``.
        kept: the tokens that count, ``labels != -100``.
        weight: of every token, inside its sequence; 1 if not given.

    Example:
        >>> sequence_weights(torch.tensor([[1, 1, 2]]), torch.tensor([[True, True, True]]))
        tensor([[0.5000, 0.5000, 1.0000]])
    """
    if sequence.shape != kept.shape or sequence.is_floating_point():
        raise ValueError(f"linear loss: sequence must be integers {list(kept.shape)}, got {list(sequence.shape)}")
    row = torch.arange(sequence.shape[0] if sequence.ndim > 1 else 1, device=sequence.device)
    pairs = torch.stack([row.view(-1, *[1] * (sequence.ndim - 1)).expand_as(sequence), sequence])
    _, which = pairs.flatten(1).unique(dim=1, return_inverse=True)
    given = torch.ones(kept.shape, device=kept.device) if weight is None else widen(weight)
    given = torch.where(kept, given, torch.zeros_like(given)).flatten()
    total = given.new_zeros(which.numel()).index_add(0, which.flatten(), given)[which.flatten()]
    return (given / torch.where(total == 0, torch.ones_like(total), total)).view(kept.shape)


def _check_shapes(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor | None, row_weight: Tensor | None
) -> None:
    rows = hidden.shape[:-1]
    labels = rows if target is None else target.shape
    if weight.ndim != 2 or hidden.ndim < 2 or hidden.shape[-1] != weight.shape[1] or labels != rows:
        raise ValueError(
            f"linear loss: expected hidden states [..., d], an output matrix [c, d] and labels [...], got "
            f"{list(hidden.shape)}, {list(weight.shape)} and {list(labels)}"
        )
    if hidden.dtype != weight.dtype and not torch.is_autocast_enabled(hidden.device.type):
        raise ValueError(
            f"linear loss: hidden states are {hidden.dtype} and the output matrix is {weight.dtype}; cast one of them, "
            f"or run under torch.autocast"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"linear loss: bias must be {list(weight.shape[:1])}, got {list(bias.shape)}")
    if row_weight is not None and row_weight.shape != rows:
        raise ValueError(f"linear loss: row_weight must be {list(rows)}, got {list(row_weight.shape)}")


def _count(count: float | Tensor) -> float | Tensor:
    """What a sum is divided by; looked at where that is no wait for a GPU."""
    if (not isinstance(count, Tensor) or can_look(count)) and not 0 < float(count) < float("inf"):
        raise ValueError(f"linear loss: count must be above 0 and finite, got {float(count):g}")
    return count


def _check_method(method: Method) -> None:
    reason = None
    if not method.row_wise:
        reason = "relates the rows of a batch to each other, so a chunk of tokens is not enough"
    elif method.views != 1 or method.regions or method.token:
        reason = "needs a second view, a token or regions of an image"
    elif method.module is not None:
        reason = "learns parameters of its own, which would get no gradient"
    if reason:
        raise ValueError(f"linear loss: {method.name} {reason}; use method.loss(fr.rows.tokens(...)) instead")


@spoken
def linear_loss(
    method: Method,
    hidden: Float[Tensor, "... d"],
    weight: Float[Tensor, "c d"],
    target: Any,
    *,
    teacher: Teacher,
    bias: Tensor | None = None,
    row_weight: Tensor | None = None,
    ignore_index: int | None = -100,
    chunk: int = 1024,
    progress: Progress | None = None,
    count: float | Tensor | None = None,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    vocabulary: int | None = None,
    sequence: Tensor | None = None,
) -> Float[Tensor, ""]:
    """``method.loss`` of the logits ``hidden @ weight.T + bias`` (scaled and capped), a chunk of tokens at a time.

    Equals ``method.loss(fr.rows.tokens(logits, teacher, target))`` with its gradients, and never holds [tokens, c]
    logits of the student. Gradients are computed chunk by chunk in the forward pass and kept until the backward
    pass: one [tokens, d] and one [c, d], in float32.

    Args:
        method: any method whose rows are independent, with one view and no learned parameters of its own.
        hidden: ``[..., d]`` the student's last hidden states, after the final norm.
        weight: ``[c, d]`` its output matrix.
        target: ``[...]`` integer labels; ``None``: every token is a row without a label. Nothing is shifted: for
            next-token prediction pass ``hidden[:, :-1]`` and ``labels[:, 1:]``.
        teacher: dense logits ``[..., c]`` of any floating dtype, :class:`LinearLogits`, :class:`TopLogits` (kd,
            dkd_top1, gdkd and gdkd3; dkd and deepkd(kd) where the labels are stored), or
            ``fr.losses.SampledLogits`` (kd).
        bias: ``[c]`` of the student's output layer.
        row_weight: ``[...]`` weight of each token in the mean; 1 if not given.
        ignore_index: tokens with this label are dropped from every term; ``None`` keeps all.
        chunk: tokens whose logits are held at once; a few [chunk, c] float32 tensors are the largest temporaries.
        progress: position in training; without one every schedule stands at its end, so there is no warm-up.
        count: divide the sum over tokens by this instead of by the (weighted) number of kept tokens: the tokens of
            all accumulated batches (``num_items_in_batch`` of the Hugging Face trainer).
        softcap: cap of the student's logits, cap tanh(z / cap) (Gemma's ``final_logit_softcapping``).
        logit_scale: factor of the student's logits, before the cap (Cohere's ``logit_scale``).
        vocabulary: read only the first classes of student and teacher, as many as the tokenizer has: output matrices
            are padded to round numbers, to different ones for different models.
        sequence: ``[...]`` numbers of packed sequences, each of which then counts alike; see :func:`sequence_weights`.

    Returns:
        Scalar, differentiable once; 0 with a graph if no token is kept.

    Raises:
        ValueError: shapes that do not match, or a method that cannot be evaluated row by row.

    Source: gradients in the forward pass as in Liger Kernel's fused linear losses (arXiv 2410.10989).

    Example:
        >>> import torch, fractionate as fr
        >>> h, w = torch.randn(2, 3, 8, requires_grad=True), torch.randn(50, 8, requires_grad=True)
        >>> y = torch.tensor([[1, 2, -100], [4, 5, 6]])
        >>> loss = fr.linear_loss(fr.methods.gdkd(), h, w, y, teacher=torch.randn(2, 3, 50))
        >>> loss.backward()
        >>> h.grad[0, 2].tolist() == [0.0] * 8
        True
    """
    head = Head(softcap, logit_scale, vocabulary)
    inputs = LinearRows(method, hidden, weight, bias, target, row_weight, ignore_index, teacher, head, sequence)

    def losses(method: Method, lg: Logits) -> Mapping[str, Tensor]:
        return {"loss": method.loss(lg, progress)}

    return inputs.means(losses, ("loss",), chunk, count)["loss"]


@spoken
def linear_stream_losses(
    method: Method,
    hidden: Float[Tensor, "... d"],
    weight: Float[Tensor, "c d"],
    target: Any,
    *,
    teacher: Teacher,
    bias: Tensor | None = None,
    row_weight: Tensor | None = None,
    ignore_index: int | None = -100,
    chunk: int = 1024,
    progress: Progress | None = None,
    count: float | Tensor | None = None,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    vocabulary: int | None = None,
    sequence: Tensor | None = None,
    merge: bool | None = None,
) -> dict[str, Tensor]:
    """``method.stream_losses`` of the logits ``hidden @ weight.T + bias``, a chunk of tokens at a time.

    One pass over the chunks serves every stream; each keeps one [tokens, d] and one [c, d] gradient until its
    backward pass.

    Args:
        method, hidden, weight, target, teacher, bias, row_weight, ignore_index, chunk, progress, count: as in
            :func:`linear_loss`.
        softcap, logit_scale, vocabulary, sequence: likewise.
        merge: as in :meth:`Method.stream_losses`.

    Returns:
        stream name -> scalar, for :func:`stream_grads`.

    Example:
        >>> import torch, fractionate as fr
        >>> head, h, y = torch.nn.Linear(8, 50), torch.randn(4, 8), torch.tensor([1, 2, 3, 4])
        >>> m = fr.methods.deepkd(fr.methods.dkd())
        >>> losses = fr.linear_stream_losses(m, h, head.weight, y, teacher=torch.randn(4, 50), bias=head.bias)
        >>> list(fr.stream_grads(losses, head))
        ['task+nontarget', 'target']
    """
    head = Head(softcap, logit_scale, vocabulary)
    inputs = LinearRows(method, hidden, weight, bias, target, row_weight, ignore_index, teacher, head, sequence)

    def losses(method: Method, lg: Logits) -> Mapping[str, Tensor]:
        return method.stream_losses(lg, progress, merge)

    names = tuple(s.name for s in merged_streams(method.streams, method.update, merge))
    return inputs.means(losses, names, chunk, count)
