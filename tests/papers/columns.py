"""The slow twin of the recipes: where each raw cell of the table must be found in a run, written out column by column.

It knows nothing of the package's reader. A column that holds something and has no entry here fails the test.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import fractionate as fr
from tests.papers.cells import Case

# The table's method -> method and wrappers here.
NAMES = {
    "ce": "labels alone",
    "lskd": "kd+lskd",
    "kd+ls": "kd+lskd",
    "dkd+ls": "dkd+lskd",
    "mlkd+ls": "mlkd+lskd",
    "ctkd": "kd+ctkd",
    "ctkd+ls": "kd+ctkd+lskd",
    "dkdmod": "dkd",
    "gdkd_auto_w": "gdkd_auto_weight",
}
# What the source's word for its form of a method means.
VARIANTS = {
    "v1": {"version": "v1"},
    "v2": {"version": "v2"},
    "v3": {"version": "v3"},
    "norm=global": {"mode": "global"},
    "eta=0.75": {"eta": 0.75},
    "eta=0.5": {"eta": 0.5},
    "alpha_T=1": {"alpha_temperature": 1},
    "two views": {"form": "published-code"},
    "one view": {"form": "one_view"},
    "power 0.1": {"l": 0.1},
    # nothing beyond what the other columns say
    "strategy=target": {},
    "strategy=target ori": {},
    "strong augmentation": {},
    "teacher for transformer students": {},
    "global temperature": {},
    "class defaults": {},
    "dot": {},
    "ratio": {},
    "published-code": {},
    "paper": {},
}
EXTRA = {  # key -> argument and the wrapper that has it
    "t_start": ("t_start", "ctkd"),
    "t_end": ("t_end", "ctkd"),
    "ramp_epochs": ("ramp_epochs", "ctkd"),
    "student_swap_after": ("start_epoch", None),
    "exponent": ("l", None),
    "gamma": ("gamma", None),
}


def same(value: object, cell: str) -> bool:
    return isinstance(value, int | float) and math.isclose(value, float(cell), rel_tol=1e-12, abs_tol=1e-15)


def argument(name: str) -> Callable[[Case, str], bool]:
    return lambda case, cell: same(case.args[name], cell)


def temperature(case: Case, cell: str) -> bool:
    standardised = case.wrapper("lskd")
    return same(case.args["temperature"] if standardised is None else standardised["temperature"], cell)


def temperatures(case: Case, cell: str) -> bool:
    wanted = sorted(map(float, cell.split()))
    if case.run.method.name == "sld":
        return sorted(case.args["temperatures"]) == wanted
    standardised = case.wrapper("lskd")
    own = case.args["temperature"] if standardised is None else standardised["temperature"]
    return sorted([own, 3, 5, 2, 6]) == wanted


def kd_weight(case: Case, cell: str) -> bool:
    standardised = case.wrapper("lskd")
    if standardised is not None:  # multiplies, so what it multiplies must be 1
        return same(standardised["weight"], cell) and case.args.get("kd_weight", 1) == 1
    return same(case.args["weight" if case.run.method.name == "ttm" else "kd_weight"], cell)


def ce_weight(case: Case, cell: str) -> bool:
    return same(case.built.parts["task"].weight(fr.Progress(epoch=1, epochs=case.run.epochs)), cell)


def loss_warmup(case: Case, cell: str) -> bool:
    """The distillation weights grow by equal steps up to that epoch, and no further."""
    before, at, after = int(cell) - 1, int(cell), 2 * int(cell)
    fading = fr.schedules.cosine(1.0, 0.1) if case.run.method.name == "adkd" else None

    def weight(name: str, epoch: int) -> float:
        progress = fr.Progress(epoch=epoch, epochs=case.run.epochs)
        own = case.built.parts[name].weight(progress)
        return own / fading(progress) if fading and name == "nontarget" else own

    warmed = [name for name, part in case.built.parts.items() if part.role != "task"]
    return bool(warmed) and all(
        math.isclose(weight(n, before) / weight(n, at), before / at) and math.isclose(weight(n, at), weight(n, after))
        for n in warmed
    )


def extra(case: Case, cell: str) -> bool:
    for word in cell.split():
        key, value = word.split("=")
        name, wrapper = EXTRA[key]
        if not same((case.wrapper(wrapper) if wrapper else case.args)[name], value):
            return False
    return True


def delta(name: str) -> Callable[[Case, str], bool]:
    def written(case: Case, cell: str) -> bool:
        dot = case.wrapper("dot")
        if dot is not None:
            return name == "delta_task" and same(-dot["delta"], cell)
        return same(case.wrapper("deepkd")[name], cell)

    return written


def augmentation(case: Case, cell: str) -> bool:
    first, flip, *more = cell.split("+")
    data = case.run.data
    strong = {(): "none", ("autoaugment(cifar10 policy)", "cutout16"): "autoaugment+cutout"}[tuple(more)]
    return (first, flip) == ("crop32-pad4", "flip") and (data.shift, data.flip, data.augment) == (4, True, strong)


def status(case: Case, cell: str) -> bool:
    notes = " ".join(case.recipe.notes)
    if cell == "reconstructed":
        return case.recipe.status == "reconstruction" and "reconstruction" in notes
    if cell == "ok":
        return case.recipe.status == "ok" and "cannot run" not in notes
    return case.recipe.status == "published file cannot run" and cell in notes


def network(name: str) -> str:
    return {"resnet56_cos": "resnet56"}.get(name, name)


# Column -> whether the run says the same as the cell.
CHECKS: dict[str, Callable[[Case, str], bool]] = {
    "id": lambda case, cell: case.recipe.id == cell,
    "dataset": lambda case, cell: case.run.data.name == cell,
    "task": lambda case, cell: cell == "classification",
    "teacher": lambda case, cell: case.run.teacher.name == network(cell),
    "student": lambda case, cell: case.run.student.name == network(cell),
    "method": lambda case, cell: case.run.method.title == NAMES.get(cell, cell),
    "variant": lambda case, cell: VARIANTS[cell].items() <= case.args.items() and case.recipe.variant == cell,
    "kind": lambda case, cell: case.recipe.row.kind == cell,
    "source": lambda case, cell: case.recipe.source.startswith(cell),
    "config": lambda case, cell: case.recipe.source.endswith(cell),
    "status": status,
    "optimizer": lambda case, cell: cell == "sgd",
    "lr": lambda case, cell: same(case.run.optimizer.lr, cell),
    "lr_schedule": lambda case, cell: case.run.learning_rate.schedule == cell,
    "milestones": lambda case, cell: " ".join(map(str, case.run.learning_rate.milestones)) == cell,
    "lr_decay": lambda case, cell: same(case.run.learning_rate.decay, cell),
    "lr_min": lambda case, cell: same(case.run.learning_rate.minimum * case.run.optimizer.lr, cell),
    "lr_warmup_epochs": lambda case, cell: same(case.run.learning_rate.warmup_epochs, cell),
    "lr_warmup_start": lambda case, cell: same(case.run.learning_rate.warmup_start, cell),
    "epochs": lambda case, cell: same(case.run.epochs, cell),
    "batch_size": lambda case, cell: same(case.run.data.batch_size, cell),
    "weight_decay": lambda case, cell: same(case.run.optimizer.weight_decay, cell),
    "momentum": lambda case, cell: same(case.run.optimizer.momentum, cell),
    "nesterov": lambda case, cell: case.run.optimizer.nesterov is {"true": True, "false": False}[cell],
    "temperature": temperature,
    "temperatures": temperatures,
    "ce_weight": ce_weight,
    "kd_weight": kd_weight,
    "alpha": argument("alpha"),
    "beta": argument("beta"),
    "w0": argument("w0"),
    "w1": argument("w1"),
    "w2": argument("w2"),
    "k": argument("k"),
    "m1": argument("m1"),
    "m2": argument("m2"),
    "auto_k_ratio": argument("ratio"),
    "dist_beta": argument("beta"),
    "dist_gamma": argument("gamma"),
    "standardize": lambda case, cell: (
        cell == "true" and (case.wrapper("lskd") is not None or case.run.method.name == "ls_gdkd")
    ),
    "loss_warmup_epochs": loss_warmup,
    "views": lambda case, cell: (
        same(case.built.views, cell) and case.run.data.strong == {"1": "none", "2": "randaugment"}[cell]
    ),
    "wv_weight": argument("wv_weight"),
    "cv_weight": argument("cv_weight"),
    "tau_w": argument("tau_weak"),
    "tau_s": argument("tau_strong"),
    "dot_delta": lambda case, cell: same(case.wrapper("dot")["delta"], cell),
    "delta_task": delta("delta_task"),
    "delta_target": delta("delta_target"),
    "delta_nontarget": delta("delta_nontarget"),
    "mu_task": lambda case, cell: same(case.momentum("task"), cell),
    "mu_target": lambda case, cell: same(case.momentum("target"), cell),
    "mu_nontarget": lambda case, cell: same(case.momentum("nontarget"), cell),
    "decay_buffer": lambda case, cell: case.built.momenta(0.5, merge=False).decay_stream == cell,
    "mask_k_start": lambda case, cell: case.kept(1) == int(cell),
    "mask_k_plateau": lambda case, cell: case.kept(case.run.epochs // 2) == int(cell),
    "mask_k_end": lambda case, cell: case.kept(case.run.epochs) == int(cell),
    "mask_phase_1": lambda case, cell: same(case.mask.grow_until, cell),
    "mask_phase_2": lambda case, cell: same(case.mask.hold_until, cell),
    "augmentation": augmentation,
    "teacher_weights": lambda case, cell: (
        case.teacher_run.data.augment == {"v": "none", "a": "autoaugment+cutout"}[cell[0]]
        and case.teacher_run.student == case.run.teacher
    ),
    "teacher_acc": lambda case, cell: same(case.recipe.teacher_top1, cell),
    "student_acc": lambda case, cell: same(case.recipe.student_top1, cell),
    "extra": extra,
    "remark": lambda case, cell: cell in case.recipe.notes,
}
