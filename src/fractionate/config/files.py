"""Run <-> YAML, strictly: a misspelled key is an error that names the nearest one; what may change under way."""

from __future__ import annotations

import dataclasses
import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .._files import expanded
from .method import MethodSpec
from .optimizers import SGD, AdamW
from .run import Network, Run
from .validation import KINDS, kinds_of, takes_text, validated, worded
from .yaml import dump_yaml, load_yaml, read_text

Plain = dict[str, Any]


def to_plain(run: Run) -> Plain:
    """The run as dicts, lists and scalars."""
    return json.loads(json.dumps(dataclasses.asdict(run)))


def from_plain(data: Mapping[str, Any], where: str = "config") -> Run:
    """Check plain data and make the run of it.

    Four short forms are understood: ``method: dkd+deepkd``, ``student: NAME``, ``optimizer: adamw`` and
    ``task: segmentation``. An optimizer without a name is ``sgd``.

    Args:
        data: as :func:`to_plain` gives it; fields left out keep their defaults.
        where: what to call it in an error.

    Raises:
        ValueError: an unknown key, or a value of a wrong type or out of range; says which and what was expected.
    """
    full = worded(_long_forms(data))
    return validated(json.dumps(full, default=str), kinds_of(full, where), where)


def to_yaml(run: Run) -> str:
    """The complete config as YAML, every default written out.

    Example:
        >>> run = Run(student=Network("convnet_8_16"), method=MethodSpec("ce"))
        >>> from_yaml(to_yaml(run)) == run
        True
    """
    return dump_yaml(to_plain(run))


def from_yaml(text: str, where: str = "config") -> Run:
    """Read a config.

    Raises:
        ValueError: broken YAML, or as :func:`from_plain`.
    """
    data = load_yaml(text, where)
    if not isinstance(data, Mapping):
        raise ValueError(f"{where}: expected 'key: value' lines, got {type(data).__name__}")
    return from_plain(data, where)


def read_config(path: str | Path) -> Run:
    """Read a config file, such as the ``config.yaml`` of a run folder.

    Relative paths in it (of weights and of the data) hold from the folder that the run was started in. They are looked
    for in the current folder if the file lies somewhere in it, then beside the file and in the folders above it, the
    nearest first; what is nowhere stays as it is written. If the current folder holds another one of the same name, a
    warning says which is taken.

    Raises:
        ValueError: no such file, or as :func:`from_yaml`.
    """
    path = expanded(path)
    if not path.is_file():
        raise ValueError(f"no config file at {path}")
    run = from_yaml(read_text(path), str(path))
    above = Path(os.path.abspath(path)).parents
    places = [("student", "checkpoint"), ("teacher", "checkpoint"), ("data", "root")]
    places += [("data", "unlabelled")] if run.data.unlabelled != "all" else []
    for part, name in places:
        written = getattr(getattr(run, part), name, None)
        if (found := _found(written, above)) != written:
            run = dataclasses.replace(run, **{part: dataclasses.replace(getattr(run, part), **{name: found})})
    return run


def check_there(run: Run, where: str | Path) -> None:
    """Refuse a config that names a file or folder which is gone, renamed or moved, before anything is built.

    Args:
        run: from :func:`read_config`, with its changes.
        where: the config's file.

    Raises:
        ValueError: naming the field, the path, and the folder above it that is missing.
    """
    fields: dict[str, str | None] = {
        "data.root": run.data.root if run.data.name != "digits" else None,
        "data.unlabelled": run.data.unlabelled if run.data.unlabelled != "all" else None,
        "teacher.checkpoint": run.teacher.checkpoint if run.teacher else None,
        "student.checkpoint": run.student.checkpoint,
    }
    for field, written in fields.items():
        if written is None or (path := expanded(written)).exists():
            continue
        whole = Path(os.path.abspath(path))
        gone = next((above for above in (*reversed(whole.parents), whole) if not above.exists()), whole)
        what = "" if gone == whole else f": there is no {gone} any more"
        raise ValueError(
            f"{field} of {where} is {written}, which does not exist{what}; if it was renamed or moved, give "
            f"{field}=PATH behind the other words"
        )


def override(run: Run, changes: Sequence[str]) -> Run:
    """Change fields by ``path=value``, the value in YAML; that of a field of text is taken as it is written.

    Another ``optimizer.name`` brings that optimizer's own learning rate and weight decay, unless they are among the
    changes; how gradients are clipped and what decays stays.

    Raises:
        ValueError: not of that form, or as :func:`from_plain`.

    Example:
        >>> run = Run(student=Network("convnet_8_16"), method=MethodSpec("ce"))
        >>> override(run, ["optimizer.lr=5e-2", "student=convnet_4_8"]).optimizer.lr
        0.05
    """
    data, given = to_plain(run), set()
    for change in changes:
        path, equals, text = change.partition("=")
        if not (path and equals):
            raise ValueError(f"expected field=value, got {change!r}")
        *parents, last = path.strip().split(".")
        place: Any = data
        for key in parents:
            if place.get(key) is None:
                place[key] = {}
            place = place[key]
            if not isinstance(place, dict):
                raise ValueError(f"{path}: {key} has no fields of its own")
        place[last] = _value(text, path.strip())
        given.add(path.strip())
        data = _long_forms(data)  # so that teacher=NAME may be followed by teacher.checkpoint=FILE
    if isinstance(data["optimizer"], dict) and "optimizer" not in given:
        data["optimizer"] = _switched(run.optimizer, data["optimizer"], given)
    task = data["task"]
    if isinstance(task, dict) and task.get("name") != run.task.name:  # another task has other fields
        data["task"] = {k: v for k, v in task.items() if k == "name" or f"task.{k}" in given}
    return from_plain(data, "settings")


def _value(text: str, path: str) -> Any:
    """What stands behind ``path=``: ``off``, ``007`` and ``my #1`` are words where only words can stand."""
    bare = text.strip()
    if takes_text(path) and bare not in ("", "null", "~") and bare[0] not in "\"'":
        return bare
    return load_yaml(text, path)


def differences(a: Run, b: Run) -> list[str]:
    """The fields in which two runs differ.

    Example:
        >>> run = Run(student=Network("convnet_8_16"), method=MethodSpec("ce"))
        >>> differences(run, override(run, ["epochs=3", "optimizer.lr=0.05"]))
        ['optimizer.lr', 'epochs']
    """
    one, two = dict(_leaves(to_plain(a))), dict(_leaves(to_plain(b)))
    return [path for path in one | two if one.get(path) != two.get(path)]


def _found(path: str | None, above: Sequence[Path]) -> str | None:
    """A path of a config, from wherever the config is read; ``above`` are the folders that it lies in."""
    if path is None or expanded(path).is_absolute():
        return path
    here = Path(path).exists()
    *folders, _ = above  # whatever lies at the root of the disk was not meant
    found = next((folder / path for folder in folders if (folder / path).exists()), None)
    if found is None or (here and (Path.cwd() in above or found.samefile(path))):
        return path
    if here:
        warnings.warn(f"{path} of the config is taken to be {found}, not that of the current folder", stacklevel=3)
    return str(found)


def _leaves(node: Plain, path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def _long_forms(data: Mapping[str, Any]) -> Plain:
    full = dict(data)
    if isinstance(full.get("method"), str):
        full["method"] = dataclasses.asdict(MethodSpec.parse(full["method"]))
    for role in ("student", "teacher"):
        if isinstance(full.get(role), str):
            full[role] = dataclasses.asdict(Network(full[role]))
    if isinstance(optimizer := full.get("optimizer"), str):
        full["optimizer"] = {"name": optimizer}
    elif isinstance(optimizer, dict):
        full["optimizer"] = {"name": "sgd", **optimizer}  # files of before there were two
    if isinstance(task := full.get("task"), str):
        full["task"] = {"name": task}
    elif isinstance(task, dict):
        full["task"] = {"name": "classification", **task}
    if full.get("teacher_table") is False:  # YAML 1.1 reads a bare ``off`` so
        full["teacher_table"] = "off"
    return full


def _switched(before: SGD | AdamW, now: Plain, given: set[str]) -> Plain:
    """The optimizer's fields after a change of its name: those that the other kind does not have must be as by default.

    Raises:
        ValueError: one of them is not.
    """
    kind = KINDS["optimizer"].get(now["name"])
    if kind in (None, type(before)):
        return now
    old, new = ({f.name: f.default for f in dataclasses.fields(k)} for k in (before, kind))
    kept = {"name", "clip", "clip_streams", "decay", "layer_decay"}
    for name, value in now.items():
        if name in old and name not in new and value != old[name]:
            raise ValueError(
                f"settings: optimizer.{name}={value} belongs to {before.name}, not to {now['name']}; put it back with "
                f"optimizer.{name}={json.dumps(old[name])}"
            )
    return {
        name: value
        for name, value in now.items()
        if name in kept or (f"optimizer.{name}" in given and name not in old.keys() - new.keys())
    }


# Under these a position inside the run means something else, or the weights do not fit.
FIXED = ("student", "data", "seed", "task")
FREE = (
    "data.root",
    "data.cache",
    "student.checkpoint",
    "student.pretrained",
)  # how the same images and first weights were found


def changed_fields(before: Run, now: Run) -> dict[str, list[Any]]:
    """Fields that differ, with the old and the new value.

    Raises:
        ValueError: a field differs that cannot change under way.

    Example:
        >>> from fractionate.config.method import MethodSpec
        >>> from fractionate.config.run import Network
        >>> from fractionate.config.files import override
        >>> run = Run(student=Network("convnet_8_16"), method=MethodSpec("ce"))
        >>> changed_fields(run, override(run, ["optimizer.lr=0.05"]))
        {'optimizer.lr': [0.1, 0.05]}
    """
    paths = differences(before, now)
    one, two = to_plain(before), to_plain(now)
    found = {path: [_at(one, path), _at(two, path)] for path in paths}
    for path, (old, new) in found.items():
        if path.split(".")[0] in FIXED and path not in FREE:
            raise ValueError(
                f"{path} was {old!r} and is now {new!r}: it cannot change in the middle of a run; put it back, or "
                f"train in another folder"
            )
    return found


def _at(plain: Plain, path: str) -> Any:
    node: Any = plain
    for key in path.split("."):
        node = node.get(key) if isinstance(node, dict) else None
    return node
