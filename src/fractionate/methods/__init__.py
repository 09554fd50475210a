"""Every method as a function with keyword-only arguments that returns a :class:`Method`."""

from .adkd import adkd
from .crld import crld
from .ctkd import ctkd
from .deepkd import deepkd
from .dgkd import dgkd
from .dist import dist
from .dist_gdkd import dist_gdkd
from .dkd import dkd, dkd_top1
from .dot import dot
from .extra import with_extra
from .gdkd import gdkd, gdkd3
from .gdkd_auto import gdkd_auto_weight, ls_gdkd
from .gdkd_k import gdkd_auto_k, gdkd_class_k
from .grouped import grouped
from .kd import kd
from .logit_mse import logit_mse
from .lskd import lskd
from .method import Method, Part, Task
from .mlkd import mlkd
from .nkd import nkd
from .ofa import ofa
from .random_subsets import sgdkd, skd
from .resplit import only, resplit
from .reweighted import reweighted
from .rld import rld
from .sdd import sdd
from .streams import Stream, UpdateRule
from .swap import sld, swap
from .teachers import mixture_of_teachers, per_teacher
from .topk_plugins import with_contrast, with_scaled_teacher, with_top_cosine
from .topkd import topkd
from .ttm import ttm, wttm

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
