"""Weights from files: safetensors, bare state dicts, and the layouts that published code writes."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal
from zipfile import is_zipfile

import torch
from torch import Tensor, nn

from .._files import expanded

Role = Literal["student", "teacher"]
# Keys under which files keep their state dict. Where several are there the first counts: the weights themselves before
# their average, the student before other networks.
WRAPPERS = (
    *("student", "student_state_dict", "state_dict", "model_state_dict", "model_state", "model", "model_weights"),
    *("net", "net_state_dict", "network", "weights", "params", "module"),
    *("ema", "model_ema", "ema_model", "ema_state_dict", "state_dict_ema", "params_ema"),
)
# Attributes of wrappers, which stand before every key.
PREFIXES = ("student", "model", "net", "network", "backbone", "_model", "ema", "ema_model", "model_ema")
# What torch.compile, FSDP, activation checkpointing and Lightning's strategies put into keys, and what
# DistributedDataParallel puts before them.
INTO = "_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module"
INSERTED = re.compile(rf"^(?:(?:{INTO}|module)\.)+|(?<=\.)(?:{INTO})\.")
# No weights: counters of averaging and of profilers.
COUNTERS = ("n_averaged", "total_ops", "total_params")
COUNTED = "num_batches_tracked"  # files from before batch norm counted its batches lack it; torch fills it in
# Neighbours of a network that are no part of it.
OTHERS = re.compile(r"(?:^|_)(?:teacher|criterion|loss|metrics?|accuracy|acc|auroc|ema)(?:_|\d*$)", re.IGNORECASE)
SHOWN = 5
DEEPEST = 8  # mappings in mappings; a file can hold one that holds itself


class OtherHead(ValueError):
    """Weights whose last layer knows another number of classes, while all others fit."""


def load_checkpoint(net: nn.Module, path: str | Path, *, new_head: bool = False, role: Role = "student") -> None:
    """Fill ``net`` with the weights of a file; every tensor must find its place.

    Understands ``.safetensors``; and others, read by ``torch.load(weights_only=True)``: a bare state dict, or one under
    the usual keys (``"model"``, ``"state_dict"``, ``"model_state_dict"``, ``"student"``, ``"net"``, ``"ema"``, ...),
    nested as they may be. Weights come before their moving average where a file holds both. Prefixes of wrappers
    (``module.``, ``_orig_mod.``, ``model.``, ``student.``, or any that all keys share) are taken off, also repeated;
    counters of profilers and of averaging, and a teacher, criterion or metric beside the network are left alone.

    Args:
        net: network to fill, in place.
        path: file.
        new_head: leave the last layer as it is where the file's knows another number of classes.
        role: whose weights are taken where a file of a distillation holds both networks.

    Raises:
        FileNotFoundError: no such file.
        OtherHead: a ValueError: only the last layer differs, in its number of classes.
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
    path = expanded(path)
    own = net.state_dict()
    state = _fitted(own, _of(role, _unwrap(_read(path), path, role)), path)
    heads = _heads(own, state)
    if not (new_head and heads):
        _check(own, state, path)
    net.load_state_dict({**state, **{key: own[key] for key in heads}})


def _read(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    head = _head(path)
    if path.suffix == ".safetensors" or head[8:10] == b'{"':
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} is no safetensors file: {_not_weights(head) or error}") from error
    if found := _not_weights(head):
        raise ValueError(f"{path} holds no weights: {found}")
    if head.startswith(b"PK") and not is_zipfile(path):
        raise ValueError(f"{path} is cut off or damaged: an archive without its end; copy or download it again")
    if not head.startswith((b"PK", b"\x80")):  # an archive, or a pickle as torch wrote it before 1.6
        raise ValueError(
            f"{path} holds no weights: it is no file of torch.save or safetensors, or its start is damaged"
        )
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # the options that training scripts save beside
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file raises nearly anything
        if isinstance(error, EOFError) or "EOF" in str(error):
            raise ValueError(f"{path} is cut off: it ends in the middle; copy or download it again") from error
        first = (str(error).splitlines() or [type(error).__name__])[0]
        if first.startswith("Weights only load failed"):  # torch goes on for paragraphs
            first = "it holds other objects, such as a whole network"
        raise ValueError(
            f"{path} cannot be read as tensors alone ({first}). Files with other Python objects can run code when "
            f"they are opened; if you trust it, re-save its state dict with torch.save(net.state_dict(), ...)"
        ) from error


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(64)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from error


def _not_weights(head: bytes) -> str:
    """What a file is that begins like this, if people come by such files in place of weights; else empty."""
    if not head:
        return "it is empty"
    if head.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS, and git lfs pull brings the file itself"
    if head.lstrip().startswith((b"<", b"{\n", b"{ ")):
        return "it is a page or a text, such as a server's answer in place of a download"
    if head.startswith((b"\x89PNG", b"\xff\xd8", b"%PDF", b"\x1f\x8b", b"\x89HDF", b"\x93NUMPY")):
        return "it is a file of another kind (picture, archive, HDF5, NumPy)"
    return ""


def _unwrap(content: Any, path: Path, role: Role) -> dict[str, Tensor]:
    """The tensors of the innermost mapping that a known key, or the only one with tensors alone, leads to."""
    given = content
    keys = WRAPPERS if role == "student" else ("teacher", "teacher_state_dict", *WRAPPERS)
    for _ in range(DEEPEST):
        inner = _inside(content, keys) if isinstance(content, Mapping) else None
        content = content if inner is None else inner
    tensors = _tensors(content)
    if not tensors:
        found = list(given)[:SHOWN] if isinstance(given, Mapping) else type(given).__name__
        raise ValueError(f"{path} holds no state dict, neither bare nor under one of {list(WRAPPERS)}; found {found}")
    return tensors


def _of(role: Role, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A teacher's tensors alone, where their keys tell them from a student's; else all of them."""
    bare = _bare(state)
    own = {bare[k].removeprefix("teacher."): v for k, v in state.items() if bare[k].startswith("teacher.")}
    return own if own and role == "teacher" else state


def _inside(content: Mapping[Any, Any], keys: Sequence[str]) -> Mapping[Any, Any] | None:
    for key in keys:
        if isinstance(content.get(key), Mapping) and content[key]:
            return content[key]
    for depth in (0, DEEPEST):  # what holds tensors itself comes before what holds them further down
        if alone := [v for v in content.values() if isinstance(v, Mapping) and _holds(v, depth)]:
            break
    return alone[0] if len(alone) == 1 and not _tensors(content) else None


def _holds(content: Mapping[Any, Any], depth: int) -> bool:
    """Whether tensors and nothing else lie in it, or under one of its keys and no other."""
    if len(_tensors(content)) == len(content):
        return bool(content)
    if not depth or _tensors(content):
        return False
    return sum(isinstance(v, Mapping) and _holds(v, depth - 1) for v in content.values()) == 1


def _tensors(content: Any) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        return {}
    return {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}


def _fitted(own: Mapping[str, Tensor], given: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The given tensors under the network's own keys, as far as prefixes and counters keep them apart.

    A prefix is taken off where every key of the network is found behind it and what is left over is another network's
    or no weight at all.

    Raises:
        ValueError: the network is there under several prefixes.
    """
    bare = {short: k for k, short in _bare(own).items()}
    weights = [k for k in given if k in own or k.rpartition(".")[2] not in COUNTERS]
    state = {short: given[k] for k, short in _bare(weights).items()}
    wanted = [k for k in bare if not k.endswith(COUNTED)]
    prefixes = [p for p in _prefixes(wanted, state) if all(p + k in state for k in wanted)]
    fits = [p for p in prefixes if all(k.startswith(p) or _left_alone(p, k) for k in state)]
    if len(fits) > 1:
        raise ValueError(f"{path} holds the network several times, under {fits}; save the one you mean alone")
    prefix = fits[0] if fits else _shared(state)
    inner = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    return {bare.get(k, k): v for k, v in inner.items()}


def _bare(keys: Iterable[str]) -> dict[str, str]:
    """Every key without what wrappers of the network or of a layer put in; as it is where two would become one."""
    short = {k: INSERTED.sub("", k) for k in keys}
    return short if len(set(short.values())) == len(short) else {k: k for k in short}


def _prefixes(wanted: list[str], state: Mapping[str, Tensor]) -> list[str]:
    """Every prefix behind which the first of the wanted keys is found; the empty one first."""
    if not wanted:
        return [""]
    ends = [k.removesuffix(wanted[0]) for k in state if k.endswith(wanted[0])]
    return sorted({p for p in ends if p == "" or p.endswith(".")}, key=len)


def _left_alone(prefix: str, key: str) -> bool:
    """Whether a key outside of a prefix is known not to belong to the network."""
    if not prefix:
        return False
    parts = key.split(".")
    return "student" in prefix.split(".") or any(OTHERS.search(part) for part in parts[: prefix.count(".")])


def _shared(state: Mapping[str, Tensor]) -> str:
    """The student's or the known prefix that all keys share, so that misfits are told in the network's own words."""
    if any(k.startswith("student.") for k in state):
        return "student."
    prefix = ""
    while True:
        rest = {k.removeprefix(prefix).partition(".")[0] for k in state}
        if len(rest) != 1 or not rest & set(PREFIXES):
            return prefix
        prefix += f"{rest.pop()}."


def _heads(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    """The keys of last layers for other classes, if nothing else is wrong; several where there are several heads."""
    wrong = {k: (tuple(given[k].shape), tuple(own[k].shape)) for k in given if k in own}
    wrong = {k: pair for k, pair in wrong.items() if pair[0] != pair[1]}
    whole = all(k in own for k in given) and all(k in given or k.endswith(COUNTED) for k in own)
    theirs, ours = min((pair[0][0], pair[1][0]) for pair in wrong.values() if all(pair)) if _rows(wrong) else (0, 0)
    alike = bool(theirs) and all(a[1:] == b[1:] and a[0] * ours == b[0] * theirs for a, b in wrong.values())
    last = list(own)[-1].rpartition(".")[0] if own else ""
    return list(wrong) if whole and alike and last in {k.rpartition(".")[0] for k in wrong} else []


def _rows(wrong: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]) -> bool:
    """Whether all of these shapes have rows, and there are any; a box has four to each of its category's."""
    return bool(wrong) and all(a and b and a[0] and b[0] for a, b in wrong.values())


def _check(own: Mapping[str, Tensor], given: Mapping[str, Tensor], path: Path) -> None:
    missing = [k for k in own if k not in given and not k.endswith(COUNTED)]
    unexpected = [k for k in given if k not in own]
    shapes = {k: (tuple(given[k].shape), tuple(own[k].shape)) for k in given if k in own}
    wrong = {k: pair for k, pair in shapes.items() if pair[0] != pair[1]}
    for name in (k for k in given if k in own):
        _check_kind(name, own[name], given[name], path)
    if not (missing or unexpected or wrong):
        return
    problems = [f"{len(missing)} missing: {_some(missing)}"] if missing else []
    problems += [f"{len(unexpected)} unexpected: {_some(unexpected)}"] if unexpected else []
    if heads := _heads(own, given):
        theirs, ours = wrong[heads[0]]
        detector = any(".box_predictor." in key for key in heads)
        raise OtherHead(
            f"{path} does not fit the network: it has {theirs[0]} classes, the network {ours[0]}"
            f"{', the background among them' if detector else ''}; create it with num_classes={theirs[0] - detector}"
        )
    if wrong:
        pairs = [f"{k} is {list(a)} in the file, {list(b)} in the network" for k, (a, b) in wrong.items()]
        problems += [f"{len(wrong)} of another shape: {_some(pairs)}"]
    raise ValueError(f"{path} does not fit the network: {'; '.join(problems)}")


def _check_kind(name: str, own: Tensor, given: Tensor, path: Path) -> None:
    """Numbers that copying would bend (complex to real, whole to fractional), or that are not there."""
    if given.layout != torch.strided or given.is_meta:
        raise ValueError(f"{path}: {name!r} is no plain tensor ({given.layout}, {given.device}); save it as one")
    if name.endswith(COUNTED):
        return  # cast with the weights, and read by no network that has a momentum
    if given.is_floating_point() != own.is_floating_point():
        raise ValueError(f"{path}: {name!r} is {given.dtype}, expected {own.dtype}; save floating-point weights")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
