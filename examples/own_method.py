"""A method from outside the package: one file, no registration, held to the package's own contract.

Run: python examples/own_method.py

The student learns the teacher's order of the classes instead of its probabilities: the label first, then the others as
the teacher ranks them, each choice weighted by the teacher's probability (a ranking loss after the idea of
arXiv 2506.12542; nothing here claims that paper's numbers).
"""

import torch
from torch import Tensor

import fractionate as fr
from fractionate.kernels import widen
from fractionate.methods import Method, Part, Task
from fractionate.schedules import constant, warmup
from fractionate.testing import CHECKS, Contract, check_method


def ranking(*, weight: float = 1.0, warmup_epochs: float = 1, label_smoothing: float = 0.0) -> Method:
    """Plackett-Luce ranking: weight W(e) sum_k p^T_(k) [ log sum_{j >= k} exp z^S_(j) - z^S_(k) ], the label first."""

    def terms(lg: fr.Logits, progress: fr.Progress) -> dict[str, Tensor]:
        student, teacher = widen(lg.student), widen(lg.teacher)  # never in 16 bits
        order = teacher.scatter(1, lg.labels[:, None], torch.inf).argsort(dim=1, descending=True, stable=True)
        z, p = student.gather(1, order), teacher.softmax(1).gather(1, order)
        left = torch.stack([z[:, k:].logsumexp(1) for k in range(lg.classes)], 1)  # what is still to choose from
        choices = p * (left - z)
        return {"label": choices[:, 0], "order": choices[:, 1:].sum(1)}

    return Method(
        name="ranking",
        parts={
            "task": Part(constant(1.0), "task"),
            "label": Part(warmup(weight, warmup_epochs), "target"),
            "order": Part(warmup(weight, warmup_epochs), "nontarget"),
        },
        terms=terms,
        task=Task(label_smoothing),
        needs_labels=True,
    )


# The row that this method would have in the package's contract table. Every claim is checked in both directions: a
# component that is not named as zero at the teacher must not be zero there.
CONTRACT = Contract(components=("label", "order"), needs_labels=True, roles=True)


def main() -> None:
    """Check the contract, then train a student with the method under DeepKD."""
    check_method(ranking(), CONTRACT)
    print(f"ranking keeps its contract ({len(CHECKS)} checks)")

    torch.manual_seed(0)
    images = torch.randn(256, 16)
    teacher = torch.nn.Sequential(torch.nn.Linear(16, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
    student = torch.nn.Linear(16, 10)
    labels = teacher(images).argmax(1)
    method = fr.methods.deepkd(ranking(), delta=0.05)
    optimizer = fr.StreamSGD(student.parameters(), lr=0.05, momentum=method.momenta(0.9))
    for step in range(100):
        with torch.no_grad():
            teacher_logits = teacher(images)
        rows = fr.Logits(student(images), teacher_logits, labels)
        losses = method.stream_losses(rows, fr.Progress(step=step, epochs=1))
        optimizer.step(fr.stream_grads(losses, student))
        if step % 20 == 0:
            agreement = (rows.student.argmax(1) == labels).float().mean()
            print(f"step {step:3d}  {method.backward_passes} backward passes  agreement {agreement:.0%}")


if __name__ == "__main__":
    main()
