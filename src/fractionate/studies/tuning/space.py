"""What is tried: every published method as it comes, and points of a space of methods, wrappers, weights and rates."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

from ...config.files import override
from ...config.method import METHODS, WRAPPERS, MethodSpec, Value, Wrapper
from ...config.run import Monitors, Network, Run
from ...recipes import find, placed
from ..usual import controls, drafted, every_method, methods_of

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import Trial
    from rich.console import Console

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
AROUND = (NO_WRAPPER, "deepkd", "dot", "lskd", "ea")  # ea weighs rows; reweighted would do nothing without streams
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


def published(choice: Choice, console: Console, texts: Sequence[str] = ()) -> list[Setting]:
    """Methods as ``compare`` would train them: kd first; of several that are the same student the shortest one.

    Args:
        choice: recipe, networks and changes.
        console: where is said which weights were chosen.
        texts: as on the command line; none = all published ones, those of the recipe's comparison first.

    Example:
        >>> from rich.console import Console
        >>> from fractionate.studies.chosen import Choice
        >>> [s.method for s in published(Choice("digits"), Console(quiet=True), ["dkd", "dkd+reweighted", "gdkd"])]
        ['kd', 'dkd', 'gdkd']
    """
    found: dict[str, str] = {}
    for spec in methods_of(choice, [BASELINE, *(texts or _names(choice.recipe))], console):
        student = written_out(drafted(choice, spec).method)
        found[student] = min(found.get(student, str(spec)), str(spec), key=len)
    return [Setting(method) for method in found.values()]


def _names(recipe: str) -> list[str]:
    first = [name for name in find(recipe).methods if name != "ce"]
    able, _ = every_method()
    alone = [name for name in able if "+" not in name or name.partition("+")[2] in AROUND]
    return first + ["deepkd" if name == "dkd+deepkd" else name for name in alone]  # its beta is not DKD's


def written_out(spec: MethodSpec) -> str:
    """A method with all its arguments and without ``reweighted`` where that does nothing: one text for one student.

    Example:
        >>> written_out(MethodSpec.parse("dkd(beta=8)+reweighted")) == written_out(MethodSpec.parse("dkd"))
        True
    """
    calls = [(spec.name, METHODS[spec.name], spec.args)]
    for n, wrapper in enumerate(spec.wrappers, start=1):
        if wrapper.name != "reweighted" or _moved(spec, n) != _moved(spec, n - 1):
            calls.append((wrapper.name, WRAPPERS[wrapper.name], wrapper.args))
    return str([(name, sorted(_all_arguments(function, args))) for name, function, args in calls])


def _moved(spec: MethodSpec, wrappers: int) -> tuple[object, ...]:
    """What moves the weights under the inner wrappers of a method; where it stays, no loss is weighed anew."""
    method = replace(spec, wrappers=spec.wrappers[:wrappers]).build()
    return method.streams, method.update


def _all_arguments(function: Callable[..., object], args: Mapping[str, Value]) -> list[tuple[str, str]]:
    parameters = inspect.signature(function).parameters
    found = {name: p.default for name, p in parameters.items() if p.default is not p.empty} | dict(args)
    return [(name, repr(float(x) if isinstance(x, int) else x)) for name, x in found.items()]


def uncontrolled(settings: Sequence[Setting], draft: Draft) -> list[Setting]:
    """Those in DeepKD's or DOT's streams beside which none of their controls stands, with the same weights and rate.

    Args:
        settings: of one table.
        draft: the recipe's run.
    """

    def student(setting: Setting) -> tuple[str, float]:
        return written_out(setting.run(draft, 0).method), setting.rate

    there = [student(setting) for setting in settings]
    found = []
    for setting in settings:
        wanted = [replace(setting, method=str(spec)) for spec in controls([setting.spec], lambda spec: draft(spec, 0))]
        if wanted and not any(student(control) in there for control in wanted):
            found.append(setting)
    return found


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
    wrapper = trial.suggest_categorical(wrapper_axis(name), list(fitting(name)))
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


@cache
def fitting(name: str) -> tuple[str, ...]:
    """The wrappers that a method of the space can have: streams need a loss that can be taken apart.

    Example:
        >>> fitting("dkd"), fitting("wttm")
        (('none', 'deepkd', 'dot', 'lskd', 'ea'), ('none', 'dot', 'lskd', 'ea'))
    """

    def fits(wrapper: str) -> bool:
        try:
            MethodSpec(name, {}, () if wrapper == NO_WRAPPER else (Wrapper(wrapper),)).build()
        except ValueError:
            return False
        return True

    return tuple(wrapper for wrapper in AROUND if fits(wrapper))


def wrapper_axis(method: str) -> str:
    """Name of the axis of a method's wrappers: methods that can have the same ones share what is learnt of them."""
    found = fitting(method)
    return "wrapper" if found == AROUND else f"wrapper ({', '.join(found)})"


def distributions(methods: Sequence[str]) -> dict[str, BaseDistribution]:
    """The axes of the space by name, as :func:`suggested` draws from them."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    words = {"method": tuple(methods), "direction": DIRECTIONS} | {
        wrapper_axis(name): fitting(name) for name in methods
    }
    numbers = {"weight": WEIGHT, "target": WEIGHT, "temperature": TEMPERATURE, "rate": RATE}
    found: dict[str, BaseDistribution] = {key: CategoricalDistribution(values) for key, values in words.items()}
    return found | {key: FloatDistribution(low, high, log=True) for key, (low, high) in numbers.items()}


def usual_arguments(draft: Draft, name: str) -> dict[str, Value]:
    """Arguments of a method as the recipe has them, defaults among them."""
    return _arguments(draft, MethodSpec(name))


def _arguments(draft: Draft, spec: MethodSpec) -> dict[str, Value]:
    parameters = inspect.signature(METHODS[spec.name]).parameters
    return {arg: p.default for arg, p in parameters.items()} | draft(spec, 0).method.args


def usual_point(draft: Draft, method: str) -> dict[str, float | str]:
    """Where a method as it comes lies in the space; empty for one that does not."""
    spec = MethodSpec.parse(method)
    wrapper = "+".join(w.name for w in spec.wrappers) or NO_WRAPPER
    if spec.name not in WEIGHTS or wrapper not in fitting(spec.name) or any(w.args for w in spec.wrappers):
        return {}
    given, usual = _arguments(draft, spec), usual_arguments(draft, spec.name)
    weights, target = WEIGHTS[spec.name]
    axes = {**dict.fromkeys(weights, "weight"), **dict.fromkeys(target, "target"), "temperature": "temperature"}
    point: dict[str, float | str] = {"method": spec.name, wrapper_axis(spec.name): wrapper, "rate": 1.0}
    for arg, value in given.items():
        before = usual.get(arg)
        if arg == "direction" and value in DIRECTIONS:
            point[arg] = str(value)
        elif arg in axes and isinstance(value, int | float) and isinstance(before, int | float):
            place = float(value) if arg == "temperature" else value / before if before else 1.0
            if point.setdefault(axes[arg], place) != place:
                return {}  # weights that the space moves together
        elif value != before:
            return {}
    return point
