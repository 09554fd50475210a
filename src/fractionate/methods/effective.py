"""What a stream's momentum does to the weight of its losses: weight x gain, per component."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from .._choices import choose
from ..optim.momenta import Momenta
from ..rows import Progress
from .arguments import Call, Role
from .method import Method

Update = Literal["sgd", "adamw", "adamw-heavy-ball"]
UPDATES: tuple[Update, ...] = ("sgd", "adamw", "adamw-heavy-ball")
STREAMED = ("deepkd", "dot", "resplit", "reweighted")  # functions that leave the losses and change what moves them
LARGEST = 0.8
"""Largest non-target weight x gain ratio x learning rate of the released CIFAR-100 configurations of DeepKD (T = 4).

On ImageNet, at T = 1, two released configurations reach .8 too and one 1.6.
"""
SEEN = (1, 24, 48, 72, 96, 120, 144, 168, 192, 216, 240)  # epochs of 240 at which a schedule is asked


@dataclass(frozen=True)
class Effective:
    """One component of a method: its weight, and what a gradient that stays the same is multiplied by.

    Args:
        component: its name.
        stream: the gradient stream that it is in.
        role: task, target or nontarget, where it has one.
        weight: largest weight of a row during training.
        momentum: coefficient of the stream.
        gain: steps of a constant gradient, in multiples of the learning rate times the gradient.
        base_weight: weight in the method without streams.
        base_gain: gain at the base momentum.
    """

    component: str
    stream: str
    role: Role | None
    weight: float
    momentum: float
    gain: float
    base_weight: float
    base_gain: float

    @property
    def effective(self) -> float:
        """Weight times gain."""
        return self.weight * self.gain

    @property
    def base(self) -> float:
        """The same of the method without streams."""
        return self.base_weight * self.base_gain

    @property
    def ratio(self) -> float:
        """What the stream's momentum alone multiplies the weight by."""
        return self.gain / self.base_gain


@dataclass(frozen=True)
class Allocation:
    """The effective weights of a method.

    Args:
        components: one line each.
        decay_on: the stream whose buffer carries the weight decay; ``None``: the weights shrink by themselves.
        decay_gain: what the weight decay is multiplied by there.
        base_decay_gain: the same without streams.
        streamed: whether any stream's gain is not the base's.
    """

    components: tuple[Effective, ...]
    decay_on: str | None
    decay_gain: float
    base_decay_gain: float

    @property
    def streamed(self) -> bool:
        """Whether the streams change any weight, or where the decay is."""
        moved = any(abs(e.effective - e.base) > 1e-9 * max(1.0, e.base) for e in self.components)
        return moved or abs(self.decay_gain - self.base_decay_gain) > 1e-9 * self.base_decay_gain

    def pressure(self, lr: float) -> tuple[float, Effective] | None:
        """Largest non-target weight x gain ratio x learning rate, and its component; ``None`` without one.

        Where no component says that it is about the non-targets, all but the task's count.
        """
        largest = max(self.distilled, key=lambda e: e.weight * e.ratio, default=None)
        return None if largest is None else (largest.weight * largest.ratio * lr, largest)

    @property
    def distilled(self) -> list[Effective]:
        """The components about the non-targets; where none says that it is, all but the task's."""
        given = [e for e in self.components if e.role == "nontarget"]
        return given or [e for e in self.components if e.role is None and e.component != "task"]


def effective_weights(
    method: Method, momentum: float = 0.9, *, update: Update = "sgd", dampening: float = 0.0, one_buffer: bool = False
) -> Allocation:
    """Weight times gain of every component, beside those of the method without streams.

    The gain is what a constant gradient is multiplied by once the buffers are full:

    - ``"sgd"``: a heavy ball's buffer tends to g / (1 - m_c), Nesterov's look-ahead g + m_c V_c to the same, so the
      gain is (1 - dampening) / (1 - m_c), times (1 - m_c) / (1 - m) under ``normalize_gain``. Weight decay rides in
      one stream's buffer and has that stream's gain; decoupled it has gain 1.
    - ``"adamw"``: first moments are averages, m_c / (1 - b_c^t), so the gain of every stream is 1 whatever its
      coefficient: under :class:`fractionate.StreamAdamW` a shift changes how long a stream remembers and not what it
      weighs. All are divided by the same root of the second moment, which is of their sum, so a common factor of all
      weights has no effect at all and only their ratios count. Decay is decoupled.
    - ``"adamw-heavy-ball"``: ``gain="heavy-ball"`` multiplies stream c by (1 - b) / (1 - b_c) on top, and the weights
      are moved as under SGD.

    Args:
        method: any method.
        momentum: base momentum, or beta1.
        update: what moves the weights.
        dampening: of SGD.
        one_buffer: all streams move at the base momentum, as where their gradients are combined into one.

    Raises:
        ValueError: an unknown update, or a coefficient outside [0, 1).

    Example:
        >>> import fractionate as fr
        >>> found = effective_weights(fr.methods.deepkd(fr.methods.dkd(beta=8)))
        >>> [(e.component, round(e.effective, 1), round(e.base, 1)) for e in found.components]
        [('task', 40.0, 10.0), ('target', 5.7, 10.0), ('nontarget', 320.0, 80.0)]
        >>> round(found.pressure(lr=0.05)[0], 2)
        1.6
    """
    choose("update", update, UPDATES)
    momenta = method.momenta(momentum, merge=False)
    base = _gain(momentum, momentum, update, dampening)
    gains = {name: base if one_buffer else _of_stream(momenta, name, momentum, update, dampening) for name in momenta}
    plain = _plain_weights(method)
    components = tuple(
        Effective(
            component=c,
            stream=stream.name,
            role=method.parts[c].role,
            weight=_largest(method, c, method.origin),
            momentum=momentum if one_buffer else momenta[stream.name],
            gain=gains[stream.name],
            base_weight=plain.get(c, _largest(method, c, method.origin)),
            base_gain=base,
        )
        for stream in method.streams
        for c in stream.components
    )
    if update != "sgd":
        return Allocation(components, None, 1.0, 1.0)
    on = momenta.decay_stream
    return Allocation(components, on, 1.0 if on is None else gains[on], base)


def _gain(coefficient: float, base: float, update: Update, dampening: float) -> float:
    if update == "adamw":
        return 1.0
    if update == "adamw-heavy-ball":
        return (1 - base) / (1 - coefficient)
    return (1 - dampening if coefficient else 1.0) / (1 - coefficient)


def _of_stream(momenta: Momenta, stream: str, base: float, update: Update, dampening: float) -> float:
    coefficient = 0.0 if stream in momenta.no_buffer else momenta[stream]
    return momenta.gains.get(stream, 1.0) * _gain(coefficient, base, update, dampening)


def _largest(method: Method, component: str, call: Call | None) -> float:
    part = method.parts[component]
    weight = max(part.weight(p) for p in (Progress.end(), *(Progress(epoch=e) for e in SEEN)))
    # kd(nontarget=x) weighs its rows by 1 - a + x inside of the component.
    added = call.core.value("nontarget") if call is not None and part.role == "nontarget" else None
    return weight * (1 + float(added)) if isinstance(added, int | float) else weight


def _plain_weights(method: Method) -> Mapping[str, float]:
    """Weights of the method inside the streams, in whose components they are written."""
    call: Call | None = method.origin
    inner = method
    while call is not None and getattr(call.function, "__name__", "") in STREAMED and "method" in call.given:
        inner = call.given["method"]
        call = inner.origin
    forms = [inner] if inner.twin is None else [inner, inner.twin]  # a twin is of the same call, and does not know it
    return {name: _largest(form, name, inner.origin) for form in forms for name in form.parts}


def said(found: Allocation) -> str:
    """The allocation in one line.

    Example:
        >>> import fractionate as fr
        >>> print(said(effective_weights(fr.methods.dot(fr.methods.kd()))))
        weight x gain: task 0.571 (base 1), kd 36 (base 9); weight decay in the buffer of task, x 5.71 (base x 10)
    """
    parts = [f"{e.component} {e.effective:.3g} (base {e.base:.3g})" for e in found.components]
    where = "decoupled from the buffers" if found.decay_on is None else f"in the buffer of {found.decay_on}"
    return (
        f"weight x gain: {', '.join(parts)}; weight decay {where}, x {found.decay_gain:.3g} "
        f"(base x {found.base_decay_gain:.3g})"
    )


def warning_of(found: Allocation, lr: float) -> str | None:
    """One sentence where streams, or their gains as weights, press harder than any released CIFAR-100 configuration.

    Args:
        found: of SGD; a rate of AdamW is not comparable.
        lr: learning rate.

    Returns:
        ``None`` where they do not, or weigh no more than the method without streams does.
    """
    pressed = found.pressure(lr)
    if pressed is None or pressed[0] <= LARGEST * (1 + 1e-9):
        return None
    value, e = pressed
    if e.effective <= e.base * (1 + 1e-9):  # no stream weighs it more than its method without streams does
        return None
    smaller = e.weight * LARGEST / value
    remedy = "" if e.ratio <= 1 else "normalize_gain=true, or " if e.stream == "nontarget" else "a smaller delta, or "
    return (
        f"the weight of {e.component} ({e.weight:g}) x the gain of its momentum ({e.ratio:.3g}) x the learning rate "
        f"({lr:g}) is {value:.3g}, above the largest of DeepKD's released CIFAR-100 configurations ({LARGEST:g}); give "
        f"{remedy}a weight of at most {smaller:.2g}"
    )
