"""Two ways to prepare pixels: whether they differ, and in which of them a network knows more of labelled images."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from ..config.run import Network
from ..data import Normalization, Source
from ..models import Preprocessing, logits_of
from ..models.preprocessing import Shown

SHIFT = 0.05  # of a mean, in standard deviations, from which pixels are normalised in another way
SCALE = 0.05  # of a standard deviation, as a share of it
TRIED = 256  # images on which a network is tried both ways
SURE = 3.0  # standard deviations between the two counts, from which one way is the right one


def ways_differ(wanted: Preprocessing, have: Normalization, source: Source) -> bool:
    """Whether the two ways differ by more than rounding: in size, or in normalisation."""
    side = tuple(next(iter(source.batches(1))).images.shape[2:])
    return wanted.size not in (None, side) or differ(wanted.mean, wanted.std, have.mean, have.std)


def differ(mean: Any, std: Any, mean2: Any, std2: Any) -> bool:
    """Whether pixels normalised in these two ways are other ones for a network.

    Example:
        >>> differ([0.5], [0.25], [0.505], [0.25]), differ([0.5], [0.25], [0.6], [0.25])
        (False, True)
    """
    each = zip(mean, std, mean2, std2, strict=True)
    return any(abs(m1 - m2) > SHIFT * s2 or abs(s1 - s2) > SCALE * s2 for m1, s1, m2, s2 in each)


def tried(
    net: nn.Module,
    config: Network,
    library: Preprocessing,
    plain: Preprocessing | None,
    have: Normalization,
    source: Source,
    what: str,
) -> Preprocessing | None:
    """Of the library's way and the data's the one in which the network knows more of the images; it is said."""
    first, second = (_right(net, source, Shown(way, have.mean, have.std) if way else None) for way in (library, plain))
    known = f"{config.checkpoint} does not say how the pixels of {config.name} were prepared"
    ways = {"library": (f"as {config.name.partition(':')[0]} says", first), "data": ("as the data have them", second)}
    told = " and ".join(
        f"{'none can be shown to it' if found is None else f'{int(found.sum())} of {len(found)} are right'} {words}"
        for words, found in ways.values()
    )
    if (first is None) == (second is None):
        if first is None or second is None:
            raise ValueError(f"{known}, and it takes images neither in the library's way nor in the data's")
        ahead, behind = int((first & ~second).sum()), int((second & ~first).sum())
        if abs(ahead - behind) <= SURE * (ahead + behind) ** 0.5:
            raise ValueError(
                f"{known}, and trying both does not tell ({told}): write {what}.preprocessing=library or "
                f"{what}.preprocessing=data"
            )
        chosen = "library" if ahead > behind else "data"
    else:
        chosen = "data" if first is None else "library"
    warnings.warn(
        f"{known}; tried both: {told}. Taken is the {'former' if chosen == 'library' else 'latter'}; "
        f"{what}.preprocessing={chosen} says so without trying",
        stacklevel=5,
    )
    return library if chosen == "library" else plain


@torch.inference_mode()
def _right(net: nn.Module, source: Source, how: Shown | None) -> Tensor | None:
    """Of every image tried, whether the network is right about it; ``None`` where it takes no such images."""
    device, training, found, left = next(net.parameters()).device, net.training, [], TRIED
    net.eval()
    try:
        for batch in source.batches(1):
            images, target = batch.images[:left].to(device), batch.target[:left].to(device)
            found.append(logits_of(net, how.pixels(images) if how else images).argmax(1) == target)
            left -= len(target)
            if not left:
                break
    except ValueError:
        return None
    finally:
        net.train(training)
    return torch.cat(found)
