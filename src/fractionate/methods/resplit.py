"""Other streams for the same components, and fewer components in the same streams."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from .._choices import unknown
from .method import Call, Method
from .streams import Stream, UpdateRule


def only(method: Method, names: list[str] | tuple[str, ...] | str) -> Method:
    """Keep some components: single-stream ablations and combinations of them.

    Args:
        method: any method; streams that lose all their components disappear.
        names: components to keep, at least one.

    Raises:
        ValueError: a name that is no component.

    Example:
        >>> import fractionate as fr
        >>> list(fr.methods.only(fr.methods.dkd(), ["nontarget"]).parts)
        ['nontarget']
    """
    kept = [names] if isinstance(names, str) else list(names)
    for name in kept:
        if name not in method.parts:
            raise ValueError(f"only: {unknown(f'component of {method.name}', name, method.parts)}")
    if not kept:
        raise ValueError(f"only: name at least one component of {list(method.parts)}")
    streams = [replace(s, components=tuple(c for c in s.components if c in kept)) for s in method.streams]
    return replace(
        method,
        name=f"{method.name}[{'+'.join(kept)}]",
        parts={name: part for name, part in method.parts.items() if name in kept},
        streams=tuple(s for s in streams if s.components),
        decouple=None,
        origin=Call(only, {"method": method, "names": kept}),
    )


def resplit(
    method: Method,
    streams: Mapping[str, tuple[str, ...] | list[str]],
    shifts: Mapping[str, float],
    *,
    decay_on: str | None = None,
) -> Method:
    """Put the components of a method in other gradient streams; no weight changes.

    Args:
        method: any method.
        streams: stream name -> its components; every component exactly once.
        shifts: stream name -> momentum shift (0 if not named).
        decay_on: stream that carries weight decay (the first one unless given), or ``"decoupled"``.

    Raises:
        ValueError: a component that is missing or used twice, or a shift for an unknown stream.

    Example:
        >>> import fractionate as fr
        >>> m = fr.methods.resplit(fr.methods.dkd(), {"a": ["task", "target"], "b": ["nontarget"]}, {"b": 0.05})
        >>> dict(m.momenta(0.5))
        {'a': 0.5, 'b': 0.55}
    """
    for name in shifts:
        if name not in streams:
            raise ValueError(f"resplit: {unknown('stream', name, streams)}")
    return replace(
        method,
        streams=tuple(Stream(n, tuple(c), float(shifts.get(n, 0.0))) for n, c in streams.items()),
        update=UpdateRule(decay_on=decay_on),
        origin=Call(resplit, {"method": method, "streams": streams, "shifts": shifts, "decay_on": decay_on}),
    )
