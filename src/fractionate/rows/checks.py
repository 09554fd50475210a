"""What must hold of rows, said in words where it does not; and what people give, as plain tensors."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

SAME = 1e-3  # by which soft labels of two views may differ: rounding, in half precision too
# How deep we are in torch.func's transforms, None outside; inside vmap no tensor has values of its own.
_level = getattr(getattr(torch._C, "_functorch", None), "maybe_current_level", lambda: None)


def can_look(x: Tensor) -> bool:
    """Whether values of ``x`` may be read: on CPU, and not where they are not there yet (compile, vmap, fake tensors).

    Reading from CUDA would synchronize.
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    return type(x) in (Tensor, Parameter) and _level() is None


# -- what is given, as tensors ---------------------------------------------------------------


def plain(x: Tensor) -> Tensor:
    """The tensor as autograd can keep it: a copy if it was made under ``torch.inference_mode()``."""
    if torch.compiler.is_compiling() or not x.is_inference() or torch.is_inference_mode_enabled():
        return x
    return x.clone()


def labels_from(target: Any, like: Tensor) -> Tensor | None:
    """Integers of any size as int64, arrays and lists as tensors on the logits' device; ``None`` stays."""
    if target is None:
        return None
    target = values_from("target", target, like)
    if target.is_floating_point() or target.dtype in (torch.bool, torch.int64) or target.is_complex():
        return target
    return target.long()


def values_from(name: str, values: Any, like: Tensor) -> Tensor:
    """Arrays and lists as tensors on the logits' device."""
    if isinstance(values, Tensor):
        return plain(values)
    try:
        return torch.tensor(values, device=like.device)  # a copy: arrays that may not be written to warn otherwise
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"Logits: {name} must be a tensor or an array of numbers, got {_kind(values)}; give torch.as_tensor(...)"
        ) from error


def weights_from(name: str, values: Any, like: Tensor) -> Tensor:
    """As :func:`values_from`; in float32 where they are of half precision, in which their sum would overflow."""
    weights = values_from(name, values, like)
    return weights.float() if weights.dtype in (torch.float16, torch.bfloat16) else weights


def check_tensor(where: str, name: str, logits: Any) -> None:
    """Logits are one tensor; what networks return beside it is named with the way to the logits."""
    if isinstance(logits, Tensor):
        return
    if isinstance(logits, Mapping):
        way = "output['logits']" if "logits" in logits else f"output[...], its keys are {list(logits)[:5]}"
    elif hasattr(logits, "logits"):
        way = "output.logits"
    elif isinstance(logits, tuple | list):
        way = "output[0]"
    else:
        way = "torch.as_tensor(...)"
    raise ValueError(f"{where}: {name} must be one tensor of logits, got {_kind(logits)}; give {way}")


def _kind(x: object) -> str:
    size = f" of {len(x)}" if isinstance(x, tuple | list) else ""
    return f"{type(x).__name__}{size}"


# -- shapes, dtypes, devices -----------------------------------------------------------------


def check_logits(student: Tensor, teacher: Tensor, name: str = "teacher") -> None:
    """Two [n, c] tensors of one floating dtype on one device, c at least 2."""
    check_tensor("Logits", "student", student)
    check_tensor("Logits", name, teacher)
    if student.ndim != 2 or student.shape != teacher.shape:
        raise ValueError(
            f"Logits: student and {name} must both be [n, c]; got {list(student.shape)} and "
            f"{list(teacher.shape)}. Flatten pixels, regions and tokens with fractionate.rows."
        )
    if not student.is_floating_point() or student.dtype != teacher.dtype:
        raise ValueError(
            f"Logits: student and {name} must share one floating dtype, got {student.dtype} and "
            f"{teacher.dtype}; cast one of them, for example teacher.to(student.dtype)"
        )
    if student.device != teacher.device:
        raise ValueError(
            f"Logits: student is on {student.device}, {name} on {teacher.device}; "
            f"move one of them, for example teacher.to(student.device)"
        )
    if student.shape[1] < 2:
        raise ValueError(f"Logits: at least 2 classes are needed, got c={student.shape[1]}")


def check_target(target: Tensor, student: Tensor) -> None:
    """Hard labels [n] in range, or soft labels [n, c] that are distributions (values are looked at on CPU only)."""
    n, c = student.shape
    if target.device != student.device:
        raise ValueError(f"Logits: target is on {target.device}, student on {student.device}; move one of them")
    if target.is_floating_point():
        if target.shape != student.shape:
            raise ValueError(
                f"Logits: a floating target holds soft labels [n, c]={[n, c]}, got "
                f"{list(target.shape)}; hard labels must be integers [n]"
            )
        if n and can_look(target):
            _check_distributions(target.detach())
        return
    if target.dtype != torch.int64 or target.shape != (n,):
        raise ValueError(
            f"Logits: target must be integers [n]=[{n}] or soft labels [n, c]={[n, c]} (floating point), got "
            f"{target.dtype} {list(target.shape)}"
        )
    if n and can_look(target):
        low, high = (int(v) for v in target.aminmax())
        if low < 0 or high >= c:
            raise ValueError(
                f"Logits: target labels must lie in 0..{c - 1}, got {low}..{high}; ignored positions "
                f"(255, -100) are dropped by rows.pixels and rows.tokens"
            )


def check_per_row(name: str, values: Tensor | None, student: Tensor) -> None:
    """One value per row, where the rows are."""
    if values is None:
        return
    if not isinstance(values, Tensor):
        raise ValueError(f"Logits: {name} must be a tensor [n], got {_kind(values)}; give torch.as_tensor(...)")
    if values.shape != student.shape[:1] or values.device != student.device:
        raise ValueError(
            f"Logits: {name} must be [n]=[{len(student)}] on {student.device}, got "
            f"{list(values.shape)} on {values.device}"
        )


def check_weight(weight: Tensor | None, name: str = "weight") -> Tensor | None:
    """No weight is negative (looked at on CPU only); one that is not finite is named by the loss, as logits are."""
    if weight is None or not len(weight) or not can_look(weight):
        return weight
    flat = weight.detach().flatten()
    if -float("inf") < float(flat.amin()) < 0:
        row = int((flat < 0).nonzero()[0, 0])
        raise ValueError(
            f"Logits: {name} must not be negative, got {float(flat[row]):.4g} in row {row}; 0 leaves a row out"
        )
    return weight


def check_like(name: str, logits: Tensor, student: Tensor) -> None:
    """The same rows and classes as the student's."""
    if logits.shape != student.shape:
        raise ValueError(
            f"Logits: the {name} must have the rows and classes of the student {list(student.shape)}, got "
            f"{list(logits.shape)}"
        )


def check_view(name: str, labels: Tensor | None, target: Tensor | None) -> None:
    """A second view has the labels of the rows (looked at on CPU only)."""
    if labels is None or target is None or labels is target or labels.shape != target.shape:
        return
    if not can_look(labels) or not can_look(target) or torch.equal(labels, target):
        return
    row = int((labels != target).nonzero()[0, 0])
    if labels.ndim == 1:
        differ = f"has the label {int(labels[row])}, and {int(target[row])} here"
    elif float((labels[row] - target[row]).abs().max()) > SAME:
        differ = "has other soft labels than here"
    else:
        return
    raise ValueError(f"Logits: row {row} of the {name} {differ}; both views are of the same images in the same order")


def check_regions(regions: Tensor, student: Tensor, labels: Tensor | None = None, target: Tensor | None = None) -> None:
    """Every row has the same number of regions, at least one, and they have its label."""
    (rows, classes), (n, c) = regions.shape, student.shape
    if classes != c or (n and (rows % n or not rows)) or (rows and not n):
        raise ValueError(f"Logits: regions must be [n * r, c] with n={n}, c={c}, got {[rows, classes]}")
    if labels is None or target is None or not n or labels.ndim != target.ndim or len(labels) != rows:
        return
    if can_look(labels) and can_look(target) and labels.ndim == 1:
        wanted = target.repeat_interleave(rows // n)
        if not torch.equal(labels, wanted):
            row = int((labels != wanted).nonzero()[0, 0])
            differ = f"has the label {int(labels[row])} and its row {int(wanted[row])}"
            raise ValueError(f"Logits: region {row} {differ}: regions lie row by row, all of the first row first")


# -- values ----------------------------------------------------------------------------------


def _check_distributions(target: Tensor) -> None:
    """No entry below 0, and every row sums to 1."""
    exact = target.dtype in (torch.float32, torch.float64)
    sums = target.sum(1, dtype=target.dtype if exact else torch.float32)
    off, least = (sums - 1).abs(), target.amin()
    if float(off.amax()) <= (most := 1e-3 if exact else 2e-2) and float(least) >= -1e-6:  # False for a NaN too
        return
    row = int((~(off <= most) | (target.amin(1) < -1e-6)).nonzero()[0, 0])
    if not bool(target[row].isfinite().all()):
        raise ValueError(f"Logits: target is not finite in row {row}; soft labels are probabilities")
    low, total = float(target[row].min()), float(sums[row])
    found = f"holds {low:.4g}" if low < -1e-6 else f"sums to {total:.4g}"
    raise ValueError(
        f"Logits: target holds soft labels, which are not negative and sum to 1 in every row, but row {row} {found}; "
        f"for logits give target.softmax(1), for several labels of one row target / target.sum(1, keepdim=True)"
    )


def same_memory(a: Tensor, b: Tensor) -> bool:
    """Whether one is the other, detached; False where nobody may look."""
    return can_look(a) and can_look(b) and a.data_ptr() == b.data_ptr()


def warn_of_probabilities(name: str, logits: Tensor, where: str = "Logits") -> None:
    """Warn once for every place in a program if these are probabilities: the network ends in a softmax."""
    if not len(logits) or not can_look(logits) or min(logits[0, :8].tolist()) < 0:  # nearly all logits end here
        return
    if _normalized(logits[:1]) and _normalized(logits):
        if bool((logits.amax(1) == 1).all()):  # one-hot: nobody's softmax, somebody's example
            return
        warnings.warn(
            f"{where}: {name} holds probabilities (no entry below 0, every row sums to 1), not raw logits, so every "
            f"temperature acts on the wrong scale; take the softmax off the network, or give its logarithm, "
            f"{name}.clamp(min=1e-12).log()",
            UserWarning,
            stacklevel=4,  # the caller of Logits(...)
        )


def _normalized(z: Tensor) -> bool:
    """Whether every row is a distribution, up to rounding."""
    if not bool((z >= 0).all()):
        return False
    sums = z.sum(1, dtype=torch.float64 if z.dtype == torch.float64 else torch.float32)
    return bool(((sums - 1).abs() < (2e-2 if z.dtype in (torch.bfloat16, torch.float16) else 1e-4)).all())


def labels_for(where: str, student: Tensor, teacher: Tensor, target: Any) -> Tensor | None:
    """Labels as int64; the logits are looked at first, for labels go to their device."""
    check_tensor(where, "student", student)
    check_tensor(where, "teacher", teacher)
    target = labels_from(target, student)
    if target is not None and target.is_floating_point():
        raise ValueError(f"{where}: labels are integers, got {target.dtype} {list(target.shape)}")
    return target


def weights_for(where: str, weight: Any, target: Tensor | None, student: Tensor) -> Tensor | None:
    """One weight per label, or per position of the student where there are no labels."""
    if weight is None:
        return None
    weight = weights_from("weight", weight, student)
    shape = _positions(student) if target is None else target.shape
    if weight.shape != shape:
        raise ValueError(f"{where}: weight must be {list(shape)}, one per label, got {list(weight.shape)}")
    return check_weight(weight)  # before sequences divide it by its sum


def _positions(student: Tensor) -> torch.Size:
    """The shape of a student's logits without their classes: ``[b, h, w]``, ``[r]`` or ``[b, t]``."""
    return student.movedim(1, -1).shape[:-1] if student.ndim == 4 else student.shape[:-1]


def check_same(where: str, unit: str, student: torch.Size, teacher: torch.Size, target: torch.Size | None) -> None:
    """Teacher and labels are of the student's images, regions or tokens."""
    for name, found in (("teacher has", teacher), ("labels have", target)):
        if found is not None and found != student:
            raise ValueError(
                f"{where}: the {name} rows {list(found)}, the student {list(student)}; a row needs both networks and "
                f"its label, so all must be of the same {unit} in the same order"
            )


def check_classes(where: str, student: int, teacher: int, cut: str) -> None:
    """Both networks have one set of classes; ``cut`` shows how to cut logits off."""
    if student != teacher:
        larger, least = "teacher" if teacher > student else "student", min(student, teacher)
        raise ValueError(
            f"{where}: the teacher has {teacher} classes, the student {student}; both need one vocabulary "
            f"(cut padding columns off the larger logits, {larger}{cut.format(least)})"
        )
