"""Which pixels a network is shown: its own size and normalisation, or those of the data; what it was trained to see."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .._files import expanded
from ..config.files import read_config
from ..config.run import Network
from ..data import Normalization, Source, normalization_of
from ..models import Preprocessing, logits_of, preprocessing_of
from ..models.exported import preprocessing_beside
from ..models.preprocessing import Shown, from_plain, shown, shown_of

if TYPE_CHECKING:
    from .build import Training

SHIFT = 0.05  # of a mean, in standard deviations, from which pixels are normalised in another way
SCALE = 0.05  # of a standard deviation, as a share of it
TRIED = 256  # images on which a network is tried both ways
SURE = 3.0  # standard deviations between the two counts, from which one way is the right one


def made_for(net: nn.Module, config: Network, source: Source, tried_on: Source, what: str = "network") -> nn.Module:
    """The network, which from now on sees the images of a source as it was trained to.

    Args:
        net: built from ``config``.
        config: says where its weights come from.
        source: of the images it is going to be shown.
        tried_on: labelled images without augmentation, for a file of which nobody says how its pixels were prepared.
        what: what to call it: ``"student"``, ``"teacher"``.

    Raises:
        ValueError: it is not known how it wants its pixels, or what the source did to them.
    """
    have = normalization_of(source)
    wanted = wanted_by(net, config, have, tried_on, what)
    if wanted is None:
        return net
    if have is None:
        raise ValueError(
            f"the {what} {config.name} wants pixels prepared in its own way, but the source does not say how its "
            f"images were normalised; give it a normalization"
        )
    return shown(net, Shown(wanted, have.mean, have.std))


def settled(net: nn.Module, config: Network, source: Source, tried_on: Source, what: str) -> Network:
    """The config that says itself how the network wants its pixels, where that has to be tried; else itself.

    Arguments and errors as those of :func:`made_for`. Several runs of one teacher try it once then.
    """
    have = normalization_of(source)
    if _known(net, config, what) is not None or not _open(net, config, have, tried_on):
        return config
    wanted = wanted_by(net, config, have, tried_on, what)
    return replace(config, preprocessing="library" if wanted else "data")


def wanted_by(
    net: nn.Module, config: Network, have: Normalization | None, tried_on: Source, what: str
) -> Preprocessing | None:
    """What the network wants done to pixels; ``None``: as the data have them."""
    if (known := _known(net, config, what)) is not None:
        return known[0]
    if (library := _open(net, config, have, tried_on)) is None or have is None:
        return None
    return _tried(net, config, library, have, tried_on, what)


def _known(net: nn.Module, config: Network, what: str) -> tuple[Preprocessing | None] | None:
    """What somebody says, in the order of who knows it best; ``None`` where nobody does."""
    if config.preprocessing == "data":
        return (None,)
    if config.preprocessing == "library":
        if (said := preprocessing_of(net, config.name, pretrained=True)) is None:
            raise ValueError(
                f"{what}.preprocessing=library: no library says how {config.name} wants its pixels; write "
                f"{what}.preprocessing=data, or name a network of timm, torchvision or hf"
            )
        return (said,)
    if config.checkpoint and (known := _beside(expanded(config.checkpoint), net, config)) is not None:
        return known
    said = preprocessing_of(net, config.name, pretrained=config.pretrained)
    return (said,) if said or not config.checkpoint else None


def _open(net: nn.Module, config: Network, have: Normalization | None, source: Source) -> Preprocessing | None:
    """The library's way, where it is another one than the data's and nobody says which one is right."""
    library = preprocessing_of(net, config.name, pretrained=True)
    return library if library and have and _differ(library, have, source) else None


def recorded(preprocessing: Preprocessing | None) -> dict[str, Any] | None:
    """As plain data, for a run's summary."""
    return None if preprocessing is None else asdict(preprocessing)


def seen_by(net: nn.Module) -> Preprocessing | None:
    """How a network of a run sees pixels; ``None``: as the data have them."""
    how = shown_of(net)
    return how.wanted if how else None


def said_by(facts: Mapping[str, Any], key: str = "preprocessing") -> Preprocessing | None:
    """What a run's summary says its student wants done to pixels; nothing in those of releases that did nothing.

    ``key="teacher_preprocessing"`` is its teacher's.

    Raises:
        ValueError: a damaged summary.
    """
    said = facts.get(key)
    return from_plain(said) if said else None


def _beside(file: Path, net: nn.Module, config: Network) -> tuple[Preprocessing | None] | None:
    """What the folder of the weights says, if it is a run's or an exported network's; ``None`` where it is neither."""
    if exported := preprocessing_beside(file):
        return (exported,)
    if not (file.parent / "config.yaml").is_file():
        return None
    try:
        facts = json.loads((file.parent / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return (_unfinished(file, net, config),)
    return (said_by(facts) if isinstance(facts, dict) else None,)


def _unfinished(file: Path, net: nn.Module, config: Network) -> Preprocessing | None:
    """As the run began: with the library's weights, or a network that says it itself."""
    try:
        begun = read_config(file.parent / "config.yaml").student
    except (OSError, ValueError):
        begun = Network(config.name)
    own = preprocessing_of(net, config.name, pretrained=begun.pretrained or begun.preprocessing == "library")
    return None if begun.preprocessing == "data" else own


def _differ(wanted: Preprocessing, have: Normalization, source: Source) -> bool:
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


def _tried(
    net: nn.Module, config: Network, library: Preprocessing, have: Normalization, source: Source, what: str
) -> Preprocessing | None:
    """Of the library's way and the data's the one in which the network knows more of the images; it is said."""
    how = Shown(library, have.mean, have.std)
    first, second = _right(net, source, how), _right(net, source, None)
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
    return library if chosen == "library" else None


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


def seen_images(source: Source) -> dict[str, Any] | None:
    """Classes and normalisation of a source, as plain data; ``None`` where it does not tell.

    Example:
        >>> import torch
        >>> from fractionate.data import Normalization, SmallImages
        >>> pixels, rule = torch.zeros(2, 1, 4, 4, dtype=torch.uint8), Normalization((0.5,), (0.25,))
        >>> seen_images(SmallImages(pixels, torch.arange(2), 2, rule, batch_size=2, classes=("cat", "dog")))
        {'classes': ['cat', 'dog'], 'mean': [0.5], 'std': [0.25]}
    """
    rule = normalization_of(source)
    if rule is None:
        return None
    return {"classes": list(source.classes), "mean": list(rule.mean), "std": list(rule.std)}


def check_seen(training: Training) -> None:
    """Refuse a teacher out of a run folder whose images were others than those it is going to be asked about.

    Accuracy alone does not tell: with two classes exchanged, or pixels a little too bright, a teacher is only worse.

    Raises:
        ValueError: another order of the classes, or another normalisation.
    """
    network, here = training.run.teacher, seen_images(training.train)
    if here is None or training.teacher is None or network is None or not network.checkpoint:
        return
    path = expanded(network.checkpoint).parent / "summary.json"
    there = _recorded(path)
    theirs, ours = there.get("classes"), here["classes"]
    if isinstance(theirs, list) and theirs and ours and theirs != ours:
        shared = min(len(theirs), len(ours))
        at = next((i for i in range(shared) if theirs[i] != ours[i]), shared)
        raise ValueError(
            f"the teacher was trained on other classes or in another order: class {at} is {_at(theirs, at)} in {path} "
            f"and {_at(ours, at)} here; train it on these images"
        )
    own_way = shown_of(getattr(training.teacher, "net", None) or nn.Identity())  # undoes what the data do to pixels
    if not own_way and _normalised_otherwise(there, here):
        raise ValueError(
            f"the teacher was trained on images normalised in another way: mean {_some(there['mean'])} and std "
            f"{_some(there['std'])} in {path}, {_some(here['mean'])} and {_some(here['std'])} here; train it on "
            f"these images"
        )


def _recorded(path: Path) -> Mapping[str, Any]:
    """What the summary says about the images; nothing where there is none, or one that was not written by a run."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["images"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _normalised_otherwise(there: Mapping[str, Any], here: Mapping[str, Any]) -> bool:
    rules = [there.get("mean"), there.get("std"), here["mean"], here["std"]]
    if any(not _numbers(rule) or len(rule) != len(here["mean"]) for rule in rules):
        return False
    return differ(*rules)


def _numbers(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(x, int | float) for x in values)


def _at(names: Sequence[str], place: int) -> str:
    return repr(names[place]) if place < len(names) else "none"


def _some(numbers: Sequence[float]) -> str:
    return ", ".join(f"{x:.3f}" for x in numbers)
