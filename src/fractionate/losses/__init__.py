"""Pure functions of rows: every loss returns one value per row and nothing else."""

from .classwise import class_mean, confidence_ratio
from .coupling import gradient_coupling
from .group_zscore import zscored
from .inside import kl_inside
from .partition import Group, Partition, by_target, by_target_top, by_teacher_top1, by_top, by_top1_top, whole
from .random_groups import by_target_random, random_classes
from .ranking import top_classes
from .refined import below_target, sample_confidence
from .regions import region_logits, region_weights, with_regions
from .relations import batch_relation, class_relation, column_correlation, row_correlation
from .sizes import auto_k, by_mass, by_top_sizes, class_auto_k
from .soft import adaptive_cross_entropy, inside_cross_entropy, kl_rows, logit_distance, power_mass
from .split import Split, split_kl
from .top_logits import TopLogits
from .topk import logit_contrast, scale_top, top_cosine
from .transforms import mixture_logits, standardize, swap_target

__all__ = [
    "Group",
    "Partition",
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
    "column_correlation",
    "confidence_ratio",
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
