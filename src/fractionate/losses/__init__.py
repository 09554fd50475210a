"""Pure functions of rows: every loss returns one value per row and nothing else."""

from .partition import (
    Group,
    Partition,
    by_target,
    by_target_top,
    by_teacher_top1,
    by_top,
    by_top1_top,
    whole,
)
from .ranking import top_classes
from .split import Split, split_kl

__all__ = [
    "Group",
    "Partition",
    "Split",
    "by_target",
    "by_target_top",
    "by_teacher_top1",
    "by_top",
    "by_top1_top",
    "split_kl",
    "top_classes",
    "whole",
]
