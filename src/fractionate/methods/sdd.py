"""SDD: any method on the regions of an image, at several scales."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from ..losses.regions import region_weights
from ..rows import Logits, Progress
from .checks import check_count, preset
from .mapped import on_twin, over_terms
from .method import Method, Terms


@preset
def sdd(method: Method, *, scales: Sequence[int] = (1, 2, 4)) -> Method:
    """Scale-decoupled distillation: the terms of a method on every region of the image, at several scales.

    term_i = (1 / r) sum over the r regions of row i of w term_ij, with w = 2 where exactly one of the teacher's global
    and regional predictions is right, else 1

    The rows must bring the logits of their regions: ``Logits(..., regions=...)``, for example from
    ``fractionate.losses.with_regions``, which pools the feature maps and applies the linear heads.

    Args:
        method: any one-view method: kd, dkd, nkd, ... A swap belongs inside, or every region counts as right.
        scales: sizes of the grids of regions, the whole image (1) first; r is the sum of their squares.

    Returns:
        Method with the components, weights and streams of ``method``; it needs hard labels.

    Raises:
        ValueError: scales that do not begin with 1, a two-view method, rows without regions.

    Source: arXiv 2403.13512 and shicaiwei123/SDD-CVPR2024; the scales are given on the command line there, (1, 2, 4) is
    the choice of this package.

    Example:
        >>> import torch, fractionate as fr
        >>> regions = fr.Logits(torch.randn(10, 7), torch.randn(10, 7), torch.tensor([3] * 5 + [4] * 5))
        >>> lg = fr.Logits(torch.randn(2, 7), torch.randn(2, 7), torch.tensor([3, 4]), regions=regions)
        >>> fr.methods.sdd(fr.methods.kd(), scales=(1, 2)).components(lg)["kd"].shape
        torch.Size([2])
    """
    grids = tuple(scales)
    for size in grids:
        check_count("sdd", "scales", size, 1)
    if not grids or grids[0] != 1:
        raise ValueError(f"sdd: scales must begin with 1, the whole image, got {list(grids)}")
    if method.views != 1:
        raise ValueError(f"sdd: regions have one view, {method.name} needs {method.views}")
    count = sum(size * size for size in grids)

    def on_regions(inner: Terms) -> Terms:
        def terms(lg: Logits, progress: Progress) -> dict[str, Tensor]:
            weights = region_weights(lg, count)
            assert lg.regions is not None  # region_weights refused rows without them
            rows = inner(lg.regions, progress)
            return {name: (weights * x.view(lg.rows, count)).mean(1) for name, x in rows.items()}

        return terms

    def wrap(inner: Method) -> Method:
        changed = over_terms(inner, on_regions)
        return replace(
            changed,
            name=f"{inner.name}+sdd",
            needs_labels=True,
            regions=grids,
            decouple=on_twin(inner, wrap),
        )

    return wrap(method)
