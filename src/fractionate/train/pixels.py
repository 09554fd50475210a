"""Which pixels a network is shown: its own size and normalisation, or those of the data; what it was trained to see."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import asdict, astuple, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from torch import nn

from .._files import expanded
from ..config.files import read_config
from ..config.run import Network
from ..data import Normalization, Source, normalization_of
from ..models import Preprocessing, preprocessing_of
from ..models.exported import CONFIG, KEY, WEIGHTS, preprocessing_beside
from ..models.preprocessing import Shown, from_plain, named_size, shown, shown_of
from .tried import differ, tried, ways_differ

if TYPE_CHECKING:
    from .build import Training


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
    plain = _plain(net, config, have, tried_on)
    if (known := _known(net, config, what, plain)) is not None:
        return known[0]
    if (library := _open(net, config, have, tried_on)) is None or have is None:
        return plain
    return tried(net, config, library, plain, have, tried_on, what)


def _plain(net: nn.Module, config: Network, have: Normalization | None, source: Source) -> Preprocessing | None:
    """As the data have them, at the size for which the network is built by its name; ``None`` where that is theirs."""
    size = named_size(config.name)
    library = preprocessing_of(net, config.name, pretrained=True) if size else None
    if library is None or have is None or tuple(next(iter(source.batches(1))).images.shape[2:]) == size:
        return None
    return Preprocessing(size, have.mean, have.std, library.interpolation)


def _known(
    net: nn.Module, config: Network, what: str, plain: Preprocessing | None = None
) -> tuple[Preprocessing | None] | None:
    """What somebody says, in the order of who knows it best; ``None`` where nobody does."""
    if config.preprocessing == "data":
        return (plain,)
    if config.preprocessing == "library":
        if (said := preprocessing_of(net, config.name, pretrained=True)) is None:
            raise ValueError(
                f"{what}.preprocessing=library: no library says how {config.name} wants its pixels; write "
                f"{what}.preprocessing=data, or name a network of timm, torchvision or hf"
            )
        return (said,)
    if config.checkpoint and (known := _beside(expanded(config.checkpoint), net, config, plain)) is not None:
        return known
    said = preprocessing_of(net, config.name, pretrained=config.pretrained)
    return (said or plain,) if said or not config.checkpoint else None


def _open(net: nn.Module, config: Network, have: Normalization | None, source: Source) -> Preprocessing | None:
    """The library's way, where it is another one than the data's and nobody says which one is right."""
    library = preprocessing_of(net, config.name, pretrained=True)
    if library is None or have is None:
        return None
    if named_size(config.name):  # both ways are at that size
        return library if differ(library.mean, library.std, have.mean, have.std) else None
    return library if ways_differ(library, have, source) else None


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


def _beside(
    file: Path, net: nn.Module, config: Network, plain: Preprocessing | None
) -> tuple[Preprocessing | None] | None:
    """What the folder of the weights says, if it is a run's or an exported network's; ``None`` where it is neither."""
    if exported := preprocessing_beside(file):
        return (exported,)
    if not (file.parent / "config.yaml").is_file():
        return None
    try:
        facts = json.loads((file.parent / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return (_unfinished(file, net, config) or plain,)
    return (said_by(facts) if isinstance(facts, dict) else None,)


def _unfinished(file: Path, net: nn.Module, config: Network) -> Preprocessing | None:
    """As the run began: with the library's weights, or a network that says it itself."""
    try:
        begun = read_config(file.parent / "config.yaml").student
    except (OSError, ValueError):
        begun = Network(config.name)
    own = preprocessing_of(net, config.name, pretrained=begun.pretrained or begun.preprocessing == "library")
    return None if begun.preprocessing == "data" else own


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


def normalised_as_trained(source: Any, checkpoint: str | None) -> tuple[Any, str | None]:
    """Images with the mean and std of the run in whose folder weights lie, and a sentence where those are others."""
    there, rule = _recorded(expanded(checkpoint or "").parent / "summary.json"), source.normalization
    mean, std = there.get("mean"), there.get("std")
    if not checkpoint or not _numbers(mean) or not _numbers(std) or not len(mean) == len(std) == len(rule.mean):
        return source, None
    theirs = Normalization(tuple(mean), tuple(std))
    if theirs == rule:
        return source, None
    found = copy(source)  # not replaced: a source lays its images out when it is made
    object.__setattr__(found, "normalization", theirs)
    if not differ(*astuple(theirs), *astuple(rule)):
        return found, None
    return found, "the images are normalised as those of the run in whose folder the weights lie, not by their own mean"


def check_seen(training: Training) -> None:
    """Refuse a teacher out of a run or an export whose images were others than those it is going to be asked about.

    Accuracy alone does not tell: with two classes exchanged, or pixels a little too bright, a teacher is only worse.

    Raises:
        ValueError: another order of the classes, or another normalisation.
    """
    network, here = training.run.teacher, seen_images(training.train)
    if here is None or training.teacher is None or network is None or not network.checkpoint:
        return
    check_order(network.checkpoint, here["classes"], "teacher", "train it on these images", numbers=True)
    path = expanded(network.checkpoint).parent / "summary.json"
    there = _recorded(path)
    own_way = shown_of(getattr(training.teacher, "net", None) or nn.Identity())  # undoes what the data do to pixels
    if not own_way and _normalised_otherwise(there, here):
        raise ValueError(
            f"the teacher was trained on images normalised in another way: mean {_some(there['mean'])} and std "
            f"{_some(there['std'])} in {path}, {_some(here['mean'])} and {_some(here['std'])} here; train it on "
            f"these images"
        )


def check_order(
    weights: str | Path | None, ours: Sequence[str], what: str, remedy: str, *, numbers: bool = False
) -> None:
    """Refuse weights of a run or an export that names other classes than the images do, or in another order.

    Where the names are unknown on one side, or numbers stand in for them, nobody can tell.

    Args:
        weights: the file; ``None`` has no folder that tells.
        ours: names of the classes of the images, in their order.
        what: whose weights they are: ``"student"``, ``"teacher"``.
        remedy: what to do.
        numbers: whether numbers are names, so that names on the other side are others.

    Raises:
        ValueError: names the first class that differs.
    """
    theirs, path = _named_beside(expanded(weights)) if weights else ([], Path())
    ours = list(ours)
    if not theirs or not ours or theirs == ours or not (numbers or _stand_in(theirs) == _stand_in(ours)):
        return
    shared = min(len(theirs), len(ours))
    at = next((i for i in range(shared) if theirs[i] != ours[i]), shared)
    raise ValueError(
        f"the {what} was trained on other classes or in another order: class {at} is {_at(theirs, at)} in {path} and "
        f"{_at(ours, at)} here; {remedy}"
    )


def _named_beside(weights: Path) -> tuple[list[str], Path]:
    """The classes that the run or the export names in whose folder weights lie, and its file; none where neither is."""
    path = weights.parent / "summary.json"
    names = _recorded(path).get("classes")
    if not names and weights.name == WEIGHTS:
        path = weights.parent / CONFIG
        names = _part(path, KEY).get("classes")
    return (names if isinstance(names, list) else []), path


def _stand_in(names: Sequence[str]) -> bool:
    """Whether they are numbers, as classes have them that nobody named."""
    return all(re.fullmatch(r"(class )?\d+", str(name)) for name in names)


def _recorded(path: Path) -> Mapping[str, Any]:
    """What the summary says about the images; nothing where there is none, or one that was not written by a run."""
    return _part(path, "images")


def _part(path: Path, key: str) -> Mapping[str, Any]:
    """What a JSON file holds under a key; nothing where it is not there, or something else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))[key]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _normalised_otherwise(there: Mapping[str, Any], here: Mapping[str, Any]) -> bool:
    rules = [there.get("mean"), there.get("std"), here["mean"], here["std"]]
    if any(not _numbers(rule) or len(rule) != len(here["mean"]) for rule in rules):
        return False
    return differ(*rules)


def _numbers(values: Any) -> TypeGuard[list[float]]:
    return isinstance(values, list) and all(isinstance(x, int | float) for x in values)


def _at(names: Sequence[str], place: int) -> str:
    return repr(names[place]) if place < len(names) else "none"


def _some(numbers: Sequence[float]) -> str:
    return ", ".join(f"{x:.3f}" for x in numbers)
