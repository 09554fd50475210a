"""The control of every momentum shift: the same gains as loss weights, under one momentum."""

from __future__ import annotations

from dataclasses import replace

from ..schedules import times
from .checks import check_numbers, preset
from .method import Method, Part
from .streams import UpdateRule


@preset
def reweighted(method: Method, *, momentum: float = 0.9) -> Method:
    """Loss-reweighted SGD: every stream's larger step as a larger loss weight, without its longer memory.

    w_c <- w_c (1 - m) / (1 - m_c) for the components of every stream c; then one stream with momentum m

    A heavy-ball buffer multiplies a constant gradient by 1 / (1 - m_c), so a momentum shift also re-weights the loss.
    This method keeps that part and drops the rest, to tell the two apart; ``deepkd(normalize_gain=True)`` does the
    opposite.

    Args:
        method: a method with streams: dot, deepkd, ...
        momentum: the base momentum m it would be trained with.

    Returns:
        Method with the components of ``method`` in one stream, ``loss``.

    Raises:
        ValueError: a momentum or a shifted one outside [0, 1).

    Source: this package (a control for arXiv 2505.15133).

    Example:
        >>> import fractionate as fr
        >>> m = fr.methods.reweighted(fr.methods.dot(fr.methods.kd(ce_weight=1.0), delta=0.25), momentum=0.5)
        >>> round(m.parts["task"].weight(fr.Progress()), 3), dict(m.momenta(0.5))
        (0.667, {'loss': 0.5})
    """
    check_numbers("reweighted", momentum=momentum)
    if not 0 <= momentum < 1:
        raise ValueError(f"reweighted: momentum must lie in [0, 1), got {momentum!r}")
    momenta = method.momenta(momentum, merge=False)
    gains = {
        component: momenta.gains.get(stream.name, 1.0) * (1 - momentum) / (1 - momenta[stream.name])
        for stream in method.streams
        for component in stream.components
    }
    return replace(
        method,
        name=f"{method.name}+reweighted",
        parts={name: Part(times(part.weight, gains[name]), part.role) for name, part in method.parts.items()},
        streams=(),
        update=UpdateRule(),
        decouple=None,
    )
