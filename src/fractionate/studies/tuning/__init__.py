"""A budget in, a student out: halving on a validation part, then a confirmation with fresh seeds on the test part."""

from __future__ import annotations

from .budget import Budget
from .tune import Wish, tune

__all__ = ["Budget", "Wish", "tune"]
