"""Distillation of language models from hidden states: no [tokens, vocabulary] logits of the student, ever."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from .._typing import Float
from ..rows import Logits, Progress
from .linear_rows import LinearLogits, LinearRows, Teacher
from .method import Method
from .streams import merged_streams

__all__ = ["LinearLogits", "linear_loss", "linear_stream_losses"]


def linear_loss(
    method: Method,
    hidden: Float[Tensor, "... d"],
    weight: Float[Tensor, "c d"],
    target: Tensor,
    *,
    teacher: Teacher,
    bias: Tensor | None = None,
    row_weight: Tensor | None = None,
    ignore_index: int | None = -100,
    chunk: int = 1024,
    progress: Progress | None = None,
    count: float | Tensor | None = None,
) -> Float[Tensor, ""]:
    """``method.loss`` of the logits ``hidden @ weight.T + bias``, a chunk of tokens at a time.

    Equals ``method.loss(fr.rows.tokens(logits, teacher, target))`` with its gradients, and never holds [tokens, c]
    logits of the student. Gradients are computed chunk by chunk in the forward pass and kept until the backward
    pass: one [tokens, d] and one [c, d], in float32.

    Args:
        method: any method whose rows are independent, with one view and no learned parameters of its own.
        hidden: ``[..., d]`` the student's last hidden states, after the final norm.
        weight: ``[c, d]`` its output matrix.
        target: ``[...]`` int64 labels. Nothing is shifted: for next-token prediction pass ``hidden[:, :-1]`` and
            ``labels[:, 1:]``.
        teacher: dense logits ``[..., c]`` of any floating dtype, :class:`LinearLogits`, or :class:`TopLogits`
            (kd, dkd_top1, gdkd and gdkd3 only).
        bias: ``[c]`` of the student's output layer.
        row_weight: ``[...]`` weight of each token in the mean; 1 if not given.
        ignore_index: tokens with this label are dropped from every term; ``None`` keeps all.
        chunk: tokens whose logits are held at once; a few [chunk, c] float32 tensors are the largest temporaries.
        progress: position in training.
        count: divide the sum over tokens by this instead of by the (weighted) number of kept tokens: the tokens of
            all accumulated batches (``num_items_in_batch`` of the Hugging Face trainer).

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
    inputs = LinearRows(method, hidden, weight, bias, target, row_weight, ignore_index, teacher)

    def losses(method: Method, lg: Logits) -> Mapping[str, Tensor]:
        return {"loss": method.loss(lg, progress)}

    return inputs.means(losses, ("loss",), chunk, count)["loss"]


def linear_stream_losses(
    method: Method,
    hidden: Float[Tensor, "... d"],
    weight: Float[Tensor, "c d"],
    target: Tensor,
    *,
    teacher: Teacher,
    bias: Tensor | None = None,
    row_weight: Tensor | None = None,
    ignore_index: int | None = -100,
    chunk: int = 1024,
    progress: Progress | None = None,
    count: float | Tensor | None = None,
    merge: bool | None = None,
) -> dict[str, Tensor]:
    """``method.stream_losses`` of the logits ``hidden @ weight.T + bias``, a chunk of tokens at a time.

    One pass over the chunks serves every stream; each keeps one [tokens, d] and one [c, d] gradient until its
    backward pass.

    Args:
        method, hidden, weight, target, teacher, bias, row_weight, ignore_index, chunk, progress, count: as in
            :func:`linear_loss`.
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
    inputs = LinearRows(method, hidden, weight, bias, target, row_weight, ignore_index, teacher)

    def losses(method: Method, lg: Logits) -> Mapping[str, Tensor]:
        return method.stream_losses(lg, progress, merge)

    names = tuple(s.name for s in merged_streams(method.streams, method.update, merge))
    return inputs.means(losses, names, chunk, count)
