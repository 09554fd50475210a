"""Weights from files: safetensors, bare state dicts, and the layouts that published code writes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

WRAPPERS = ("model", "state_dict", "student", "net")  # keys under which files keep their state dict
PREFIXES = ("module.student.", "student.", "module.", "model.")  # longest first
SHOWN = 5


def load_checkpoint(net: nn.Module, path: str | Path) -> None:
    """Fill ``net`` with the weights of a file; every tensor must find its place.

    Understands ``.safetensors``; and, for others, read by ``torch.load(weights_only=True)``, a bare state dict, one
    under ``"model"``, ``"state_dict"`` or ``"student"``, and the prefixes ``module.``, ``student.`` and
    ``module.student.`` (whose file may also hold a teacher, which is left alone).

    Args:
        net: network to fill, in place.
        path: file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a checkpoint, or its keys, shapes or number of classes differ from the network's; the
            message lists what is missing and what is left over. ``net`` is unchanged then.

    Example:
        >>> import tempfile, torch
        >>> net = torch.nn.Linear(3, 2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     weights = {"module.weight": torch.ones(2, 3), "module.bias": torch.ones(2)}
        ...     torch.save({"model": weights}, f"{folder}/a.pth")
        ...     load_checkpoint(net, f"{folder}/a.pth")
        >>> net.bias.tolist()
        [1.0, 1.0]
    """
    path = Path(path)
    state = _without_prefix(_unwrap(_read(path), path))
    _check(net.state_dict(), state, path)
    net.load_state_dict(state)


def _read(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} is no safetensors file: {error}") from error
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a file cut off anywhere raises nearly anything
        first = (str(error).splitlines() or [type(error).__name__])[0]
        if first.startswith("Weights only load failed"):  # torch goes on for paragraphs
            first = "it holds other objects, such as a whole network"
        raise ValueError(
            f"{path} cannot be read as tensors alone ({first}). Files with other Python objects can run code when "
            f"they are opened; if you trust it, re-save its state dict with torch.save(net.state_dict(), ...)"
        ) from error


def _unwrap(content: Any, path: Path) -> dict[str, Tensor]:
    for key in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    tensors = (
        {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}
        if isinstance(content, Mapping)
        else {}
    )
    if not tensors:
        found = list(content)[:SHOWN] if isinstance(content, Mapping) else type(content).__name__
        raise ValueError(f"{path} holds no state dict, neither bare nor under one of {list(WRAPPERS)}; found {found}")
    return tensors


def _without_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The student's entries if there are any, else all entries, without a common prefix."""
    for prefix in PREFIXES:
        inner = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        if inner and ("student" in prefix or len(inner) == len(state)):
            return inner
    return state


def _check(own: Mapping[str, Tensor], given: Mapping[str, Tensor], path: Path) -> None:
    # files from before batch norm counted its batches lack that entry; torch fills it in
    missing = [k for k in own if k not in given and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in given if k not in own]
    shapes = {k: (tuple(given[k].shape), tuple(own[k].shape)) for k in given if k in own}
    wrong = {k: pair for k, pair in shapes.items() if pair[0] != pair[1]}
    for name in (k for k in given if k in own):
        _check_kind(name, own[name], given[name], path)
    if not (missing or unexpected or wrong):
        return
    problems = [f"{len(missing)} missing: {_some(missing)}"] if missing else []
    problems += [f"{len(unexpected)} unexpected: {_some(unexpected)}"] if unexpected else []
    if wrong and not (missing or unexpected) and _only_classes_differ(wrong, list(own)[-1]):
        theirs, ours = next(iter(wrong.values()))
        problems += [f"it has {theirs[0]} classes, the network {ours[0]}; create it with num_classes={theirs[0]}"]
    elif wrong:
        pairs = [f"{k} is {list(a)} in the file, {list(b)} in the network" for k, (a, b) in wrong.items()]
        problems += [f"{len(wrong)} of another shape: {_some(pairs)}"]
    raise ValueError(f"{path} does not fit the network: {'; '.join(problems)}")


def _check_kind(name: str, own: Tensor, given: Tensor, path: Path) -> None:
    """Numbers that copying would bend (complex to real, whole to fractional), or that are not there."""
    if given.layout != torch.strided or given.is_meta:
        raise ValueError(f"{path}: {name!r} is no plain tensor ({given.layout}, {given.device}); save it as one")
    if given.is_floating_point() != own.is_floating_point():
        raise ValueError(f"{path}: {name!r} is {given.dtype}, expected {own.dtype}; save floating-point weights")


def _only_classes_differ(wrong: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]], last: str) -> bool:
    """Whether all that differs is the first dimension of the last layer: a classifier of another data set."""
    layers = {key.rpartition(".")[0] for key in wrong}
    return layers == {last.rpartition(".")[0]} and all(a[1:] == b[1:] for a, b in wrong.values())


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
