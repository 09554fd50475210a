"""Distillation of language models: losses on hidden states, teachers of which few classes are stored or drawn."""

from .linear import linear_loss, linear_stream_losses, sequence_weights
from .teachers import LinearLogits, check_stored, on_sampled_logits, on_top_logits

__all__ = [
    "LinearLogits",
    "check_stored",
    "linear_loss",
    "linear_stream_losses",
    "on_sampled_logits",
    "on_top_logits",
    "sequence_weights",
]
