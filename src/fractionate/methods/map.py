"""The map: every method as a point on a few axes, read from the method or its docstring, and a method from a point."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import cast

from .. import losses
from .._choices import choose
from ..kernels import KL, Partition, as_direction
from ..rows import Progress
from .arguments import Role
from .catalog import METHODS, find
from .gdkd_k import by_class, by_jump
from .method import Method
from .split import Mass, Reading, Readings, SplitTerms, split_method
from .terms import Around

# Axis -> its head in a table.
AXES: dict[str, str] = {
    "partition": "partition",
    "direction": "direction",
    "groups": "group weights",
    "rows": "row weight",
    "relation": "relation",
    "logits": "logits",
    "stream": "streams",
}
PARTITIONS: dict[str, Callable[..., Partition]] = {
    function.__name__: function
    for function in (
        losses.whole,
        losses.by_target,
        losses.by_teacher_top1,
        losses.by_top,
        losses.by_top1_top,
        losses.by_target_top,
        losses.by_mass,
        losses.by_classes,
        losses.by_student_top,
        by_jump,
        by_class,
    )
}
NEED_LABELS = ("by_target", "by_target_top", "by_class")


@dataclass(frozen=True)
class Point:
    """A method on the axes of the map; what an axis does not say is empty, and as usual.

    Args:
        partition: the groups of classes, a function of ``fractionate.losses`` with its arguments.
        direction: of the divergence.
        groups: ``component = weight reading`` for every component, separated by commas.
        rows: what weighs the rows; all alike if empty.
        relation: what compares several classes or rows beside the divergence.
        logits: what is compared; the rows as they are if empty.
        stream: roles that ``deepkd`` gives a momentum of their own, or the streams of a wrapper.

    Example:
        >>> Point("by_target", "reverse", "target = 1 between").rows
        ''
    """

    partition: str = ""
    direction: str = ""
    groups: str = ""
    rows: str = ""
    relation: str = ""
    logits: str = ""
    stream: str = ""


def point_of(method: Method | str) -> Point:
    """Where a method lies: derived from its split, and from the line ``Map:`` of its docstring.

    Args:
        method: a method, or the name of one or of a wrapper of the catalog, which is taken at its defaults.

    Raises:
        ValueError: unknown name; the nearest one is named.

    Example:
        >>> point_of("gdkd").partition, point_of("gdkd").groups
        ('by_top(k=5, largest=True)', 'between = 1 between, top = 1 within[0], other = 8 within[1]')
    """
    if isinstance(method, Method):
        text = "" if method.origin is None else method.origin.function.__doc__
        return Point(**{**_said(inspect.cleandoc(text or "")), **_derived(method)})
    derived = _derived(METHODS[method]()) if method in METHODS else {}
    return Point(**{**derived, **_said(inspect.cleandoc(find(method).__doc__ or ""))})


def at(
    point: Point | str,
    direction: str = "forward",
    groups: str = "",
    *,
    stream: str = "",
    temperature: float = 4.0,
    ce_weight: float = 1.0,
    warmup: float = 1,
) -> Method:
    """The split method at a point of the map.

    Args:
        point: a :class:`Point`, or its partition.
        direction, groups, stream: as in :class:`Point`, where a partition is given.
        temperature, ce_weight, warmup: of the method.

    Returns:
        Method with the components that ``groups`` names.

    Raises:
        ValueError: an unknown partition, words that are no weights of groups, or a point with a relation, row weights
            or logits of its own, which is more than a split.

    Source: this package.

    Example:
        >>> import fractionate as fr
        >>> list(at("by_top(k=2)", "jsd(beta=0.5)", "between = 1 between, rest = 4 within[1]").parts)
        ['task', 'between', 'rest']
    """
    place = point if isinstance(point, Point) else Point(point, direction, groups, stream=stream)
    more = [axis for axis in ("rows", "relation", "logits") if getattr(place, axis)]
    if more:
        raise ValueError(f"at: a split has no {more[0]} of its own, and the point has {getattr(place, more[0])!r}")
    name, partition = _partition(place.partition)
    roles = _roles(place.stream)
    readings = {component: (*value, roles.get(component)) for component, value in _groups(place.groups).items()}
    whole, _, inside = place.direction.partition(" outside, ")
    common = {"ce_weight": ce_weight, "warmup": warmup, "label_smoothing": 0.0, "hard": "error"}
    return split_method(
        "at",
        partition,
        _swapped(readings),
        temperature=temperature,
        direction=as_direction(whole),
        kl=cast(KL, inside.removesuffix(" inside") or "forward"),
        needs_labels=name in NEED_LABELS,
        **common,  # type: ignore[arg-type]
    )


# -- a method's own facts ----------------------------------------------------------------------


def _derived(method: Method) -> dict[str, str]:
    """The axes that a split says itself, and the roles of the components."""
    found: dict[str, str] = {}
    roles: dict[str, list[str]] = {}
    for component, part in method.parts.items():
        if part.role and component != "task":
            roles.setdefault(part.role, []).append(component)
    if roles:
        found["stream"] = " | ".join(["task", *(f"{role}: {', '.join(names)}" for role, names in roles.items())])
    terms = method.terms.inner if isinstance(method.terms, Around) else method.terms
    if not isinstance(terms, SplitTerms):
        return found
    weights = {name: part.weight(Progress.end()) for name, part in method.parts.items()}
    found["partition"] = _text(terms.partition)
    found["direction"] = str(terms.direction) if terms.kl == "forward" else f"forward outside, {terms.kl} inside"
    found["groups"] = ", ".join(f"{name} = {weights[name]:g} {_read(x)}" for name, x in terms.parts.items())
    return found


def _read(reading: Reading) -> str:
    if reading is None:
        return "between"
    return f"mass[{reading.group}] within[{reading.group}]" if isinstance(reading, Mass) else f"within[{reading}]"


def _text(partition: Callable[..., Partition]) -> str:
    if not isinstance(partition, partial):
        return partition.__name__
    given = ", ".join(f"{name}={value!r}" for name, value in partition.keywords.items())
    return f"{partition.func.__name__}({given})"


def _said(text: str) -> dict[str, str]:
    """What the line ``Map: axis value; axis value`` of a docstring says."""
    match = re.search(r"^Map: (.+?)(?:\n\s*\n|\Z)", text, re.MULTILINE | re.DOTALL)
    found: dict[str, str] = {}
    for entry in " ".join(match[1].split()).split(";") if match else []:
        axis, _, value = entry.strip().partition(" ")
        found[choose("axis of the map", axis, [field.name for field in fields(Point)])] = value
    return found


# -- a method from words -----------------------------------------------------------------------


def _partition(text: str) -> tuple[str, Callable[..., Partition]]:
    match = re.fullmatch(r"(\w+)(?:\((.*)\))?", text.strip())
    name = choose("partition", match[1] if match else text, list(PARTITIONS))
    if match is None or not match[2]:
        return name, PARTITIONS[name]
    call = ast.parse(text.strip(), mode="eval").body
    assert isinstance(call, ast.Call)  # the pattern above has parentheses
    given = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords if keyword.arg}
    return name, partial(PARTITIONS[name], **given)


def _groups(text: str) -> dict[str, tuple[float, Reading]]:
    found: dict[str, tuple[float, Reading]] = {}
    for entry in text.split(","):
        match = re.fullmatch(r"\s*(\w+) = ([-+.\deE]+) (between|(?:mass\[(\d+)\] )?within\[(\d+)\])\s*", entry)
        if match is None or (match[4] is not None and match[4] != match[5]):
            raise ValueError(
                f"at: groups are written 'component = weight reading', with a reading between, within[g] or "
                f"mass[g] within[g]; got {entry.strip()!r}"
            )
        group = None if match[5] is None else int(match[5])
        found[match[1]] = (float(match[2]), Mass(group) if match[4] is not None and group is not None else group)
    return found


def _roles(text: str) -> Mapping[str, Role]:
    roles: dict[str, Role] = {}
    for entry in text.split("|"):
        role, _, names = entry.strip().partition(": ")
        for component in names.split(", ") if names else []:
            roles[component] = cast(Role, choose("role", role, ("task", "target", "nontarget")))
    return roles


def _swapped(readings: Mapping[str, tuple[float, Reading, Role | None]]) -> Readings:
    return {name: (reading, weight, role) for name, (weight, reading, role) in readings.items()}
