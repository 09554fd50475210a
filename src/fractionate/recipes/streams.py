"""What ``--method deepkd`` is in a recipe: weights that somebody published, or as much as without streams."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from ..config.method import MethodSpec, Value, Wrapper
from ..config.run import Network, Run
from ..models.cifar import ALIASES
from ..papers.draft import OTHER_NAMES, defaults
from ..papers.rows import Row
from ..papers.weights import released
from ..train.allocation import gain_of_rest

ALONE = re.compile(r"\s*deepkd\b")
SHIFTS = ("delta", "delta_task", "delta_target", "delta_nontarget", "normalize_gain")
WEIGHTS = ("temperature", "ce_weight", "alpha", "beta")


def usual(text: str, draft: Callable[[MethodSpec], Run]) -> tuple[MethodSpec, str | None]:
    """The method that a text means in a recipe, and what is to be said about it.

    ``deepkd`` alone leaves to the package what is inside, so its weights are chosen: temperature, weights and momentum
    shifts that its authors released for the pair of networks, where they did; elsewhere the beta that DKD would have,
    divided by the gain of the non-target stream's momentum (8 / 4 = 2 at shift .075), so that the streams add memory
    and no weight. Whatever is given is kept: ``dkd+deepkd``, ``deepkd`` with shifts, ``method.args.beta``, and what a
    recipe itself has tuned.

    What was released was run by the published code, whose task has the target's momentum; that is
    ``deepkd(rule=published-code)``, and the paper's rule, the default, takes the same numbers.

    Args:
        text: as on the command line.
        draft: function of a method that returns the run it would be trained in.

    Returns:
        The method, and a sentence; ``None`` if nothing was chosen.

    Raises:
        ValueError: as :meth:`MethodSpec.parse`.
    """
    spec = MethodSpec.parse(text)
    if not ALONE.match(text):
        return spec, None
    run = draft(spec)
    if run.method != _without_warmup(spec, run) or spec.name != "dkd":
        own = spec.name == run.method.name == "dkd" and "beta" in run.method.args  # by the recipe, or by a change
        return spec, f"deepkd is {run.method} here, with the beta that this recipe or a setting gives" if own else None
    row = released(run.data.name, _known(run.teacher), _known(run.student))
    if row and row.beta is not None and run.optimizer.name == "sgd" and not set(SHIFTS) & set(spec.wrappers[0].args):
        found = _as_released(spec, row)
        task = "" if spec.wrappers[0].args.get("rule") == "published-code" else TASK
        return found, (
            f"deepkd is {found} here: weights and shifts as released for {row.teacher} -> {row.student} ({row.source})"
            f"{task}"
        )
    ratio, beta = gain_of_rest(run), defaults(spec)["beta"]
    if abs(ratio - 1) < 1e-6:
        return spec, None
    found = replace(spec, args={**spec.args, "beta": float(f"{beta / ratio:.4g}")})
    return found, (
        f"deepkd is {found} here: dkd's beta {beta:g} divided by {ratio:.3g}, the gain of the non-target stream's "
        f"momentum; dkd+deepkd keeps {beta:g}"
    )


TASK = ", whose code gave the task the target's momentum: deepkd(rule=published-code) does as it did"


def _as_released(spec: MethodSpec, row: Row) -> MethodSpec:
    """With the row's weights, as far as they are not DKD's own, and its shifts."""
    streams, *outer = spec.wrappers
    own, said = defaults(MethodSpec("dkd")), {name: getattr(row, name) for name in WEIGHTS}
    args: dict[str, Value] = {
        name: x for name, x in said.items() if x is not None and (name == "beta" or x != own[name])
    }
    shifts: dict[str, Value] = {"delta_target": row.delta_target, "delta_nontarget": row.delta_nontarget}
    return replace(spec, args={**args, **spec.args}, wrappers=(Wrapper("deepkd", {**shifts, **streams.args}), *outer))


def _without_warmup(spec: MethodSpec, run: Run) -> MethodSpec:
    """The method with the warm-up that the recipe cut to its length."""
    warmup = {n: x for n, x in run.method.args.items() if n == "warmup"}
    return replace(spec, args={**warmup, **spec.args})


def _known(network: Network | None) -> str:
    """The table's name of a network."""
    name = "" if network is None else network.name.rpartition(":")[2]
    return OTHER_NAMES.get(name, ALIASES.get(name, name))
