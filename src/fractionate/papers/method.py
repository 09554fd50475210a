"""From the method columns of a row to a :class:`~fractionate.config.method.MethodSpec`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ..config.method import MethodSpec, Value, Wrapper
from .dense import as_published
from .rows import Row

Args = dict[str, Value]

# Columns and keys of `extra` whose argument has another name.
ARGUMENTS = {
    "loss_warmup_epochs": "warmup",
    "auto_k_ratio": "ratio",
    "dist_beta": "beta",
    "dist_gamma": "gamma",
    "tau_w": "tau_weak",
    "tau_s": "tau_strong",
    "exponent": "l",
    "lambda": "lam",
    "student_swap_after": "start_epoch",
}
BASE = "temperature ce_weight"
KD = f"{BASE} kd_weight"
DKD = f"{BASE} alpha beta loss_warmup_epochs"
GDKD = f"{BASE} w0 w1 w2 k loss_warmup_epochs"
FURTHER = (3, 5, 2, 6)  # MLKD's temperatures besides its own
CLASSES = 100
PLATEAU = 0.55  # of the classes, on CIFAR-100
NO_PLATEAU = "how many classes the mask keeps in its middle phase is not printed; the example takes CIFAR-100's share"
NO_LOGITS = {"reviewkd": "ReviewKD", "crd": "CRD"}  # what is added on features


@dataclass(frozen=True)
class Form:
    """How a method of the table is called here.

    Args:
        name: method.
        needed: columns without which it is not the published one.
        optional: columns that may be empty.
        more: function of the row that returns arguments that are in no column of their own.
        wrapper: what takes the keys of ``extra`` in place of the method.
        notes: what differs, or what the source does besides.
    """

    name: str
    needed: str
    optional: str = ""
    more: Callable[[Row], Args] = lambda row: {}
    wrapper: str | None = None
    notes: tuple[str, ...] = ()


def _variant(row: Row) -> str:
    """``0.75`` of ``eta=0.75``, and the first word of anything else."""
    return row.variant.partition("=")[2].partition(" ")[0] or row.variant


def _levels(row: Row) -> Args:
    """MLKD's own temperature is the one that is left without the further ones; its form is that of the source."""
    left = list(row.temperatures)
    for temperature in FURTHER:
        left.remove(temperature)
    form = "one_view" if row.views == 1 else "published-code"
    return {"temperature": left[0], **({} if "deepkd" in row.method else {"form": form})}


def _dgkd_floor(row: Row) -> Args:
    """The constant of the published code, which is added to a mean over n^2 c."""
    return {} if row.batch_size is None else {"floor": 1e-8 * row.batch_size**2 * CLASSES}


def _swapped(row: Row) -> Args:
    return {"temperatures": list(row.temperatures), "detach": False, "views": row.views or 2}


FORMS: dict[str, Form] = {
    "ce": Form("ce", ""),
    "kd": Form("kd", KD),
    "lskd": Form("kd", KD),
    "ctkd": Form("kd", KD, wrapper="ctkd", notes=("the temperature is learned; the one in the table has no effect",)),
    "dkd": Form("dkd", DKD),
    "dkdmod": Form("dkd", DKD),
    "adkd": Form(
        "adkd",
        f"{BASE} alpha loss_warmup_epochs",
        notes=(
            "beta of a class is taken from the rows of each batch; method.args.betas=[...] gives those of the whole "
            "training set",
        ),
    ),
    "gdkd": Form("gdkd", GDKD),
    "gdkd3": Form("gdkd3", GDKD),
    "gdkd_auto_w": Form(
        "gdkd_auto_weight",
        f"{BASE} w0 k loss_warmup_epochs",
        "w1 w2 m1 m2",
        lambda row: {"version": row.variant},
    ),
    "gdkd_auto_k": Form("gdkd_auto_k", f"{BASE} w0 w1 w2 auto_k_ratio loss_warmup_epochs"),
    "ls_gdkd": Form("ls_gdkd", f"{GDKD} kd_weight standardize", more=lambda row: {"mode": _variant(row)}),
    "dist": Form("dist", f"{BASE} dist_beta dist_gamma"),
    "dist_gdkd": Form("dist_gdkd", f"{GDKD} dist_beta dist_gamma"),
    "sgdkd": Form("sgdkd", f"{BASE} w0 w1 loss_warmup_epochs", more=lambda row: {"eta": float(_variant(row))}),
    "skd": Form("skd", f"{KD} loss_warmup_epochs", more=lambda row: {"eta": float(_variant(row))}),
    "dgkd": Form("dgkd", DKD, more=_dgkd_floor),
    "topkd": Form("topkd", "ce_weight k"),
    "rld": Form("rld", DKD, more=lambda row: {"alpha_temperature": float(_variant(row))}),
    "mlkd": Form(
        "mlkd",
        "ce_weight kd_weight temperatures views",
        "alpha beta loss_warmup_epochs",
        _levels,
        notes=("MLKD in the form that its source runs; method.args.form=masked is the method as described",),
    ),
    "crld": Form("crld", f"{BASE} wv_weight cv_weight tau_w tau_s views", "alpha beta loss_warmup_epochs"),
    "sld": Form(
        "sld",
        "ce_weight kd_weight temperatures views",
        more=_swapped,
        notes=("gradients flow through the swapped student, as published; method.args.detach=true stops them",),
    ),
    "ttm": Form("ttm", "ce_weight kd_weight"),
    "wttm": Form("wttm", "ce_weight kd_weight"),
    "nkd": Form("nkd", "temperature ce_weight"),
    "sdd_kd": Form("kd", "", wrapper="sdd"),
    "sdd_dkd": Form("dkd", "", wrapper="sdd"),
    "sdd_nkd": Form("nkd", "", wrapper="sdd"),
}
# In these columns the method has no argument; what they say is elsewhere in the run, or follows from the name.
SILENT = ("standardize", "temperatures", "views")


@dataclass(frozen=True)
class Reading:
    """What a row says about its method.

    Args:
        spec: the method; placeholders where something is open.
        needs: what is open, as paths in a run.
        notes: what a reader must know.
    """

    spec: MethodSpec
    needs: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())


def missing_method(row: Row) -> str | None:
    """Why no method of this package is the row's; ``None`` if one is."""
    base, *added = row.method.split("+")
    for name in added:
        if name in NO_LOGITS:
            return f"{NO_LOGITS[name]} compares features; this package distils logits"
    if base not in FORMS or not set(added) <= set(WRAPPERS):
        return f"no method here is the table's {row.method!r}"
    return None


def read_method(row: Row) -> Reading:
    """The method of a row, complete with every argument that the row gives."""
    base, *added = row.method.split("+")
    form = FORMS[base]
    if form.wrapper == "sdd":
        return Reading(MethodSpec(form.name, {}, (Wrapper("sdd"),)), ("method",))
    args: Args = {}
    for column in f"{form.needed} {form.optional}".split():
        if column not in SILENT and getattr(row, column) is not None:
            args[ARGUMENTS.get(column, column)] = getattr(row, column)
    needs = [column for column in form.needed.split() if getattr(row, column) in (None, ())]
    known = as_published(row, MethodSpec(form.name)).args
    needs = [column for column in needs if ARGUMENTS.get(column, column) not in known]
    args |= form.more(row)
    extra: Args = {ARGUMENTS.get(key, key): value for key, value in row.extra.items()}
    if form.name in ("ttm", "wttm"):
        args["weight"] = args.pop("kd_weight")
    inner = []
    if form.wrapper:
        inner.append(Wrapper(form.wrapper, extra))
    else:
        args |= extra
    if base == "lskd":
        added = ["ls", *added]
    wrappers = [*inner, *(WRAPPERS[name](row, args) for name in added)]
    paths = tuple(f"method.args.{ARGUMENTS.get(column, column)}" for column in needs)
    notes = () if "deepkd" in added and form.name == "mlkd" else form.notes
    if "deepkd" in added and row.mask_k_start is not None and row.mask_k_plateau is None:
        paths, notes = (*paths, "method"), (*notes, NO_PLATEAU)
    return Reading(MethodSpec(form.name, args, tuple(wrappers)), paths, notes)


def _standardised(row: Row, args: Args) -> Wrapper:
    """LSKD's factor takes the place of the method's own weight; its temperature that of the method's."""
    weight = args.get("kd_weight", row.kd_weight)
    if "kd_weight" in args:
        args["kd_weight"] = 1
    return Wrapper("lskd", {"temperature": args.pop("temperature", None), "weight": weight})


def _dot(row: Row, args: Args) -> Wrapper:
    return Wrapper("dot", {"delta": row.dot_delta})


def _deepkd(row: Row, args: Args) -> Wrapper:
    rule = "published-code" if row.variant == "published-code" else "paper"
    deltas: Args = {name: getattr(row, name) for name in ("delta_task", "delta_target", "delta_nontarget")}
    keep: Args = {} if row.mask_k_plateau is None else {"keep": mask(row)}
    return Wrapper("deepkd", {"rule": rule, **deltas, "decay_on": row.decay_buffer, **keep})


def mask(row: Row) -> int | str:
    """DeepKD's mask: a number of classes, or the schedule as a config writes it.

    Example:
        >>> from .rows import rows
        >>> mask(rows()["cifar100/kd+deepkd/resnet56__resnet20/paper/paper"])
        'phases(plateau=0.55, start=0.05, grow_until=0.3, hold_until=0.7)'
    """
    if row.mask_k_plateau is None or row.mask_k_start is None or row.mask_k_end is None:
        return row.mask_k_plateau or 0
    return _phases(row, row.mask_k_plateau / row.mask_k_end)


def _phases(row: Row, plateau: float) -> str:
    start = (row.mask_k_start or 0) / (row.mask_k_end or 1)
    return f"phases(plateau={plateau}, start={start}, grow_until={row.mask_phase_1}, hold_until={row.mask_phase_2})"


def example_method(row: Row, spec: MethodSpec) -> str:
    """The method of a row with what its source leaves open in it, as one types it."""
    if spec.wrappers[0].name == "sdd":
        return f"{spec.title}(scales=[1,2,4])"
    *inner, last = spec.wrappers
    keep = Wrapper(last.name, {**last.args, "keep": _phases(row, PLATEAU)})
    return str(MethodSpec(spec.name, spec.args, (*inner, keep)))


WRAPPERS: Mapping[str, Callable[[Row, Args], Wrapper]] = {"ls": _standardised, "dot": _dot, "deepkd": _deepkd}
