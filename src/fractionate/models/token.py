"""Students with a distillation token: their forward pass in training gives the logits of two heads."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from .._typing import Float
from .foreign import described, fields_of, logits_of, pick_logits, run_on
from .handled import name_of

HEADS = ("cls_logits", "distillation_logits")  # transformers' names, also taken from a network of one's own


def train_token(net: nn.Module) -> nn.Module:
    """A network that gives both heads in training mode; timm's are told to, others do already."""
    switch = getattr(net, "set_distilled_training", None)
    if callable(switch):
        switch(True)
    return net


def token_logits(net: nn.Module, images: Tensor, what: str = "student") -> tuple[Float[Tensor, "n c"], ...]:
    """Logits of the class token and of the distillation token.

    Understood are two tensors ``[n, c]`` in this order, as timm's distilled transformers return in training, and fields
    ``cls_logits`` and ``distillation_logits``, as those of transformers.

    Args:
        net: network; in evaluation mode one that then gives the mean of both counts as both.
        images: ``[n, ch, h, w]`` as it takes them.
        what: what to call it in messages.

    Raises:
        ValueError: no second head is there.

    Example:
        >>> import torch
        >>> class Two(nn.Linear):
        ...     def forward(self, x):
        ...         return (y := super().forward(x.flatten(1))), -y
        >>> first, second = token_logits(Two(4, 3), torch.ones(2, 1, 2, 2))
        >>> torch.equal(first, -second)
        True
    """
    output = run_on(net, images, what)
    heads = _heads(output)
    if heads is not None:
        return heads
    if not net.training:  # the mean of the heads is what such a network is evaluated by
        mean = pick_logits(output, f"{what} {name_of(net)}")
        return mean, mean
    raise ValueError(
        f"the method distils through a token of the {what}, and {name_of(net)} has none: in training it returned "
        f"{described(output)}; take a distilled transformer (timm:deit_tiny_distilled_patch16_224, say), or let "
        f"forward return the logits of both heads as '{HEADS[0]}' and '{HEADS[1]}'"
    )


def class_logits(net: nn.Module, images: Tensor, what: str = "network") -> Float[Tensor, "n c"]:
    """The logits of the class token in training, and of the network as a whole (:func:`logits_of`) in evaluation."""
    return token_logits(net, images, what)[0] if net.training else logits_of(net, images, what)


def _heads(output: Any) -> tuple[Tensor, ...] | None:
    fields = fields_of(output)
    if all(name in fields for name in HEADS):
        found = tuple(fields[name] for name in HEADS)
    elif isinstance(output, tuple | list) and not hasattr(output, "_fields") and len(output) == 2:
        found = tuple(output)
    else:
        return None
    alike = all(isinstance(x, Tensor) and x.ndim == 2 and x.shape == found[0].shape for x in found)
    return found if alike else None
