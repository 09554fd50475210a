"""What ``--method deepkd`` is in a recipe: weights that somebody published, or as much as without streams."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from ..config.method import MethodSpec, Value, Wrapper
from ..config.run import Network, Run
from ..models.cifar import ALIASES
from ..papers.draft import OTHER_NAMES, defaults
from ..papers.weights import released
from ..train.optimizer import allocation

ALONE = re.compile(r"\s*deepkd\b")
SHIFTS = ("delta", "delta_task", "delta_target", "delta_nontarget", "rule", "normalize_gain")


def usual(text: str, draft: Callable[[MethodSpec], Run]) -> tuple[MethodSpec, str | None]:
    """The method that a text means in a recipe, and what is to be said about it.

    ``deepkd`` alone leaves to the package what is inside, so its weights are chosen: the beta and the momentum shifts
    that its authors released for the pair of networks, where they did; elsewhere the beta that DKD would have, divided
    by the gain of the non-target stream's momentum (8 / 4 = 2 at shift .075), so that the streams add memory and no
    weight. Whatever is given is kept: ``dkd+deepkd``, ``deepkd`` with shifts, ``method.args.beta``, and what a recipe
    itself has tuned.

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
        return spec, None  # the recipe or a change has settled it
    streams, *outer = spec.wrappers
    row = released(run.data.name, _known(run.teacher), _known(run.student))
    if row and row.beta is not None and not set(SHIFTS) & set(streams.args) and _same_update(run, row.temperature):
        shifts: dict[str, Value] = {"delta_target": row.delta_target, "delta_nontarget": row.delta_nontarget}
        found = replace(
            spec, args={**spec.args, "beta": row.beta}, wrappers=(Wrapper("deepkd", {**shifts, **streams.args}), *outer)
        )
        return found, (
            f"deepkd is {found} here: beta and shifts as released for {row.teacher} -> {row.student} ({row.source})"
        )
    ratio = next(e.ratio for e in allocation(run).components if e.role == "nontarget")
    beta = defaults(spec)["beta"]
    if abs(ratio - 1) < 1e-6:
        return spec, None
    found = replace(spec, args={**spec.args, "beta": float(f"{beta / ratio:.4g}")})
    return found, (
        f"deepkd is {found} here: dkd's beta {beta:g} divided by {ratio:.3g}, the gain of the non-target stream's "
        f"momentum; dkd+deepkd keeps {beta:g}"
    )


def _without_warmup(spec: MethodSpec, run: Run) -> MethodSpec:
    """The method with the warm-up that the recipe cut to its length."""
    warmup = {n: x for n, x in run.method.args.items() if n == "warmup"}
    return replace(spec, args={**warmup, **spec.args})


def _known(network: Network | None) -> str:
    """The table's name of a network."""
    name = "" if network is None else network.name.rpartition(":")[2]
    return OTHER_NAMES.get(name, ALIASES.get(name, name))


def _same_update(run: Run, temperature: float | None) -> bool:
    """Whether a released configuration is about this optimizer and temperature."""
    origin = run.method.build().origin
    return run.optimizer.name == "sgd" and origin is not None and origin.core.value("temperature") == temperature
