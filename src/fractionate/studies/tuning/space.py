"""What is tried: every published method as it comes, and points of a space of methods, wrappers, weights and rates."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ...config.files import override
from ...config.method import METHODS, MethodSpec, Value, Wrapper
from ...config.run import Monitors, Network, Run
from ...recipes import find, placed
from ..usual import every_method

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import Trial

    from ..chosen import Choice

BASELINE = "kd"  # what a tuned student is compared with
Draft = Callable[[MethodSpec, int], Run]

# Methods whose arguments are tuned: those that weigh the non-target part (or the whole loss), and the target's.
WEIGHTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "kd": (("kd_weight",), ()),
    "dkd": (("beta",), ("alpha",)),
    "gdkd": (("w2",), ("w0", "w1")),
    "nkd": (("gamma",), ()),
    "dist": (("beta", "gamma"), ()),
    "wttm": (("weight",), ()),
    "wsld": (("alpha",), ()),
    "mlkd": (("kd_weight",), ()),
    "ldrld": (("beta",), ("alpha",)),
    "logit_mse": (("weight",), ()),
}
NO_WRAPPER = "none"
AROUND = (NO_WRAPPER, "deepkd", "reweighted", "dot", "lskd", "ea")  # ea weighs rows
DIRECTIONS = ("forward", "reverse", "jsd")
WEIGHT, RATE, TEMPERATURE = (1 / 8, 8.0), (1 / 4, 4.0), (1.0, 10.0)  # factors of the recipe's; temperatures as they are


@dataclass(frozen=True)
class Setting:
    """What one student is trained with: a method as :meth:`MethodSpec.parse` reads it, and a factor of the rate."""

    method: str
    rate: float = 1.0

    @property
    def spec(self) -> MethodSpec:
        """The method."""
        return MethodSpec.parse(self.method)

    @property
    def label(self) -> str:
        """In words.

        Example:
            >>> Setting("kd").label, Setting("dkd(beta=2)", 0.5).label
            ('kd', 'dkd(beta=2), rate x 0.5')
        """
        return self.method if self.rate == 1 else f"{self.method}, rate x {self.rate:g}"

    def run(self, draft: Draft, seed: int) -> Run:
        """The complete run of a student. Nothing watches its gradients, which would cost time and change no number."""
        made = draft(self.spec, seed)
        rate = rounded(made.optimizer.lr * self.rate)
        return replace(made, optimizer=replace(made.optimizer, lr=rate), monitors=Monitors())


def rounded(value: float) -> float:
    """Three digits, so that what is printed is what was trained.

    Example:
        >>> rounded(0.123456), rounded(12.0)
        (0.123, 12.0)
    """
    return float(f"{value:.3g}")


def drafts(choice: Choice, teacher: Network | None) -> Draft:
    """The recipe's run by method and seed.

    Args:
        choice: recipe, networks and changes.
        teacher: with its weights.
    """
    found = placed(choice.recipe, choice.root, validation=choice.validation)
    given = {"name": choice.student, "epochs": choice.epochs}
    named = {name: value for name, value in given.items() if value is not None}
    changes = [change for change in choice.changes if not change.strip().startswith("teacher.")]  # said of it already

    def draft(spec: MethodSpec, seed: int) -> Run:
        return override(found.student(spec, teacher, seed=seed, **named), changes)

    return draft


def published(recipe: str) -> list[Setting]:
    """Every published method as the recipe has it: kd first, then those of its comparison, then all the others.

    Example:
        >>> [s.method for s in published("digits")[:3]]
        ['kd', 'dkd', 'gdkd']
    """
    first = [name for name in find(recipe).methods if name not in ("ce", BASELINE)]
    able, _ = every_method()
    alone = [name for name in able if "+" not in name or name.partition("+")[2] in AROUND]
    return [Setting(name) for name in dict.fromkeys([BASELINE, *first, *alone])]


def tuned_methods(names: Sequence[str] = ()) -> list[str]:
    """The methods of the space; of those named, the ones that are in it.

    Example:
        >>> tuned_methods(["kd", "crld"])
        ['kd']
    """
    return [name for name in WEIGHTS if not names or name in names]


def suggested(trial: Trial, draft: Draft, methods: Sequence[str]) -> Setting:
    """A point of the space, as Optuna's sampler proposes it.

    Raises:
        ValueError: parts that do not fit each other.
    """
    name = trial.suggest_categorical("method", list(methods))
    wrapper = trial.suggest_categorical("wrapper", list(AROUND))
    weights, target = WEIGHTS[name]
    usual = usual_arguments(draft, name)
    args: dict[str, Value] = dict.fromkeys(weights, trial.suggest_float("weight", *WEIGHT, log=True))
    if target:
        args |= dict.fromkeys(target, trial.suggest_float("target", *WEIGHT, log=True))
    args = {arg: rounded(float(factor) * float(usual[arg])) for arg, factor in args.items()}  # type: ignore[arg-type]
    if "temperature" in usual:
        args["temperature"] = rounded(trial.suggest_float("temperature", *TEMPERATURE, log=True))
    if "direction" in usual and (way := trial.suggest_categorical("direction", list(DIRECTIONS))) != DIRECTIONS[0]:
        args["direction"] = way
    rate = rounded(trial.suggest_float("rate", *RATE, log=True))
    spec = MethodSpec(name, args, () if wrapper == NO_WRAPPER else (Wrapper(wrapper),))
    spec.build()
    return Setting(str(spec), rate)


def distributions(methods: Sequence[str]) -> dict[str, BaseDistribution]:
    """The axes of the space by name, as :func:`suggested` draws from them."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    words = {"method": tuple(methods), "wrapper": AROUND, "direction": DIRECTIONS}
    numbers = {"weight": WEIGHT, "target": WEIGHT, "temperature": TEMPERATURE, "rate": RATE}
    found: dict[str, BaseDistribution] = {key: CategoricalDistribution(values) for key, values in words.items()}
    return found | {key: FloatDistribution(low, high, log=True) for key, (low, high) in numbers.items()}


def usual_arguments(draft: Draft, name: str) -> dict[str, Value]:
    """Arguments of a method as the recipe has them, defaults among them."""
    parameters = inspect.signature(METHODS[name]).parameters
    return {arg: p.default for arg, p in parameters.items()} | draft(MethodSpec(name), 0).method.args


def usual_point(draft: Draft, name: str) -> dict[str, float | str]:
    """Where a method as it comes lies in the space; empty for one that does not."""
    name, _, wrapper = name.partition("+")
    if name not in WEIGHTS or (wrapper or NO_WRAPPER) not in AROUND:
        return {}
    usual = usual_arguments(draft, name)
    point: dict[str, float | str] = {"method": name, "wrapper": wrapper or NO_WRAPPER, "weight": 1.0, "rate": 1.0}
    if WEIGHTS[name][1]:
        point["target"] = 1.0
    if "temperature" in usual:
        point["temperature"] = float(usual["temperature"])  # type: ignore[arg-type]
    if "direction" in usual:
        point["direction"] = str(usual["direction"])
    return point
