"""Every method as a function with keyword-only arguments that returns a :class:`Method`."""

from __future__ import annotations

from .deepkd import deepkd
from .dgkd import dgkd, rld
from .dist import dist, dist_gdkd
from .dkd import adkd, dkd, dkd_top1
from .gdkd import gdkd, gdkd3, gdkd_auto_weight
from .gdkd_k import gdkd_auto_k, gdkd_class_k
from .groups import grouped, sgdkd, skd
from .kd import ctkd, kd, logit_mse
from .lskd import ls_gdkd, lskd
from .method import Method, Part, Task
from .mlkd import mlkd
from .restream import dot, only, resplit, reweighted
from .soft_targets import nkd, ofa, ttm, wttm
from .streams import Stream, UpdateRule
from .teachers import mixture_of_teachers, per_teacher
from .topkd import topkd, with_contrast, with_scaled_teacher, with_top_cosine
from .views import crld, sld, swap
from .wrappers import sdd, with_extra

__all__ = [
    "Method",
    "Part",
    "Stream",
    "Task",
    "UpdateRule",
    "adkd",
    "crld",
    "ctkd",
    "deepkd",
    "dgkd",
    "dist",
    "dist_gdkd",
    "dkd",
    "dkd_top1",
    "dot",
    "gdkd",
    "gdkd3",
    "gdkd_auto_k",
    "gdkd_auto_weight",
    "gdkd_class_k",
    "grouped",
    "kd",
    "logit_mse",
    "ls_gdkd",
    "lskd",
    "mixture_of_teachers",
    "mlkd",
    "nkd",
    "ofa",
    "only",
    "per_teacher",
    "resplit",
    "reweighted",
    "rld",
    "sdd",
    "sgdkd",
    "skd",
    "sld",
    "swap",
    "topkd",
    "ttm",
    "with_contrast",
    "with_extra",
    "with_scaled_teacher",
    "with_top_cosine",
    "wttm",
]
