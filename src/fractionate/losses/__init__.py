"""Pure functions of rows: every loss returns one value per row and nothing else."""

from __future__ import annotations

from ..kernels import Group, Partition, top_classes
from .partitions import (
    below_target,
    by_target,
    by_target_random,
    by_target_top,
    by_teacher_top1,
    by_top,
    by_top1_top,
    random_classes,
    whole,
)
from .relations import batch_relation, class_relation, column_correlation, row_correlation
from .sizes import auto_k, by_mass, by_top_sizes, class_auto_k, class_mean, confidence_ratio
from .soft import (
    COUPLINGS,
    Coupling,
    adaptive_cross_entropy,
    cross_entropy,
    gradient_coupling,
    inside_cross_entropy,
    kl_inside,
    kl_rows,
    logit_distance,
    power_mass,
    sample_confidence,
)
from .split import Split, split_kl
from .stored import SampledLogits, TopLogits, coarse, sampled_kl
from .topk import SCALINGS, Scaling, logit_contrast, scale_top, top_cosine
from .transforms import (
    mixture_logits,
    region_logits,
    region_weights,
    standardize,
    swap_target,
    with_regions,
    zscored,
)

__all__ = [
    "COUPLINGS",
    "SCALINGS",
    "SampledLogits",
    "Coupling",
    "Group",
    "Partition",
    "Scaling",
    "Split",
    "TopLogits",
    "adaptive_cross_entropy",
    "auto_k",
    "batch_relation",
    "below_target",
    "by_mass",
    "by_target",
    "by_target_random",
    "by_target_top",
    "by_teacher_top1",
    "by_top",
    "by_top1_top",
    "by_top_sizes",
    "class_auto_k",
    "class_mean",
    "class_relation",
    "coarse",
    "column_correlation",
    "confidence_ratio",
    "cross_entropy",
    "gradient_coupling",
    "inside_cross_entropy",
    "kl_inside",
    "kl_rows",
    "logit_contrast",
    "logit_distance",
    "mixture_logits",
    "power_mass",
    "random_classes",
    "region_logits",
    "region_weights",
    "row_correlation",
    "sampled_kl",
    "sample_confidence",
    "scale_top",
    "split_kl",
    "standardize",
    "swap_target",
    "top_classes",
    "top_cosine",
    "whole",
    "with_regions",
    "zscored",
]
