"""DKD and GDKD of a language model's vocabulary on a GPU, in units of the time that moving the bytes takes.

Run ``python -m benchmarks.gpu_losses``. Forward reads two tensors, backward reads two and writes one; the floor is
``a + b`` (two reads, one write) on the same tensors. Liger-Kernel's distillation losses are measured beside it where
they are installed. Without a GPU the two paths are compared, and nothing is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec

import torch
from torch import Tensor

import fractionate as fr

from .losses import rows_of
from .measure import agree, interleave
from .record import append, parser, rows, show

T, K = 4.0, 5
SIZE, TOY = (2048, 128256), (64, 4099)
FLOOR = "a + b"
TENSORS = 5  # two reads forward, two reads and one write backward, against the three of the floor
Loss = Callable[[fr.Logits], Tensor]


def summed(split: fr.losses.Split) -> Tensor:
    """The weights of the methods: 1 between the groups, 8 inside the rest."""
    return (split.between + 8 * split.within[:, -1]).mean()


def dkd(lg: fr.Logits, fused: bool | None = None) -> Tensor:
    """{label}, {rest}."""
    return summed(fr.split_kl(lg.student, lg.teacher, fr.by_target(lg), T, fused=fused))


def gdkd(lg: fr.Logits, fused: bool | None = None) -> Tensor:
    """{teacher's best five}, {rest}; the ranking is part of the work."""
    return summed(fr.split_kl(lg.student, lg.teacher, fr.by_top(lg, K), T, fused=fused))


OURS: dict[str, Callable[..., Tensor]] = {"dkd": dkd, "gdkd": gdkd}


def liger() -> dict[str, Loss]:
    """Losses of Liger-Kernel that read both logits; they take them as (log-)probabilities, so softmax is included."""
    if find_spec("liger_kernel") is None:
        print("Liger-Kernel: not measured, not installed (pip install liger-kernel)")
        return {}
    from liger_kernel.transformers import LigerJSD, LigerKLDIVLoss

    kl, jsd = LigerKLDIVLoss(reduction="batchmean", log_target=True), LigerJSD(beta=0.5)

    def logs(lg: fr.Logits) -> tuple[Tensor, Tensor]:
        return (lg.student / T).log_softmax(1), (lg.teacher / T).log_softmax(1)

    return {
        "Liger KL of log-softmax": lambda lg: T**2 * kl(*logs(lg)),
        "Liger JSD of log-softmax": lambda lg: T**2 * jsd(*logs(lg)),
    }


def gradient(loss: Loss, lg: fr.Logits) -> Tensor:
    """Forward and backward down to the student's logits."""
    return torch.autograd.grad(loss(lg), lg.student)[0]


def check(lg: fr.Logits) -> None:
    """The fused path, kernels and all, gives the gradient of the plain one."""
    small = fr.Logits(lg.student[:64].detach().float().requires_grad_(), lg.teacher[:64].float(), lg.target[:64])
    for name, loss in OURS.items():
        grads = [gradient(partial(loss, fused=fused), small) for fused in (True, False)]
        agree([grads[0]], [grads[1]], name, tolerance=1e-4)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, append to the CSV."""
    options = parser("gpu_losses", __doc__.splitlines()[0], rounds=51).parse_args(arguments)
    torch.manual_seed(0)
    if not torch.cuda.is_available():
        check(rows_of(*TOY, torch.device("cpu")))
        print("not measured: no GPU")
        return
    device = torch.device("cuda")
    (n, classes), rounds = (TOY, 2) if options.toy else (SIZE, options.rounds)
    lg = rows_of(n, classes, device, torch.bfloat16)
    check(lg)
    student, teacher = lg.student.detach(), lg.teacher
    works: dict[str, Callable[[], Tensor]] = {FLOOR: lambda: student + teacher}
    works |= {name: partial(gradient, loss, lg) for name, loss in (OURS | liger()).items()}
    seconds = interleave(works, rounds, device)
    found = rows(f"{n} x {classes}, bfloat16, {torch.cuda.get_device_name(device)}", seconds, FLOOR)
    show(found)
    for row in found:
        if row.contender in OURS:
            print(f"  {row.contender}: {row.ratio * 3 / TENSORS:.2f} x the time of the {TENSORS} tensors it moves")
    append(found, options.csv, device)


if __name__ == "__main__":
    main()
