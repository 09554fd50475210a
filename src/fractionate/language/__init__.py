"""Distillation of language models: losses on hidden states, teachers of which only the best classes are stored."""

from .linear import LinearLogits, linear_loss, linear_stream_losses
from .stored import check_stored, on_top_logits

__all__ = ["LinearLogits", "check_stored", "linear_loss", "linear_stream_losses", "on_top_logits"]
