"""Slow twins of the methods since 2023: definitions on probabilities, one row after the other, loops over classes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fractionate import Logits

Terms = dict[str, Tensor]


def kl(p: Tensor, q: Tensor) -> Tensor:
    """KL of two vectors of probabilities."""
    return (p * (p.log() - q.log())).sum()


def ranked(z: Tensor) -> list[int]:
    """Classes from the largest logit to the smallest, ties towards the lower index."""
    values = z.tolist()
    return sorted(range(len(values)), key=lambda c: (-values[c], c))


def support(z: Tensor, t: Tensor, k: int, beta: float) -> list[int]:
    """The classes that TRL's top-k divergence looks at: teacher's for beta 0, student's for 1, else both."""
    own, other = set(ranked(z)[:k]), set(ranked(t)[:k])
    return sorted(other if beta == 0 else own if beta == 1 else own | other)


def jsd(p: Tensor, q: Tensor, beta: float) -> Tensor:
    """beta KL(p || M) + (1 - beta) KL(q || M); KL(p || q) for beta 0, KL(q || p) for 1."""
    if beta in (0, 1):
        return kl(q, p) if beta else kl(p, q)
    m = beta * p + (1 - beta) * q
    return beta * kl(p, m) + (1 - beta) * kl(q, m)


def gkd(z: Tensor, t: Tensor, *, beta: float, temperature: float, k: int | None = None, tail: bool = True) -> Tensor:
    """T^2 JSD of one row, of all classes or of a support with the rest as one more outcome or left out."""
    q, p = ((x / temperature).softmax(0) for x in (z, t))
    if k is not None:
        inside = support(z, t, k, beta)
        rest = [c for c in range(len(z)) if c not in inside]
        if tail:
            q, p = (torch.cat([x[inside], x[rest].sum()[None]]) if rest else x for x in (q, p))
        else:
            q, p = (x[inside] / x[inside].sum() for x in (q, p))
    return temperature**2 * jsd(p, q, beta)


def tad(z: Tensor, t: Tensor, *, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """D1, D2 and the teacher's tail mass of one row at temperature 1."""
    q, p = z.softmax(0), t.softmax(0)
    top, rest = ranked(t)[:k], ranked(t)[k:]
    head = kl(torch.cat([p[top], p[rest].sum()[None]]), torch.cat([q[top], q[rest].sum()[None]]))
    mass = p[rest].sum()
    return head, kl(p[rest] / mass, q[rest] / q[rest].sum()), mass


def atkd(student: Tensor, teacher: Tensor, labels: Tensor, *, reverse: bool = False) -> dict[str, list[Tensor]]:
    """TCKD and NCKD at temperature 1 of the easy and of the hard rows of a batch."""
    doubt = [1 - t.softmax(0)[y].item() for t, y in zip(teacher, labels, strict=True)]
    median = sorted(doubt)[(len(doubt) - 1) // 2]
    found: dict[str, list[Tensor]] = {"easy_nontarget": [], "hard_target": [], "hard_nontarget": []}
    for z, t, y, u in zip(student, teacher, labels.tolist(), doubt, strict=True):
        q, p = z.softmax(0), t.softmax(0)
        first, second = (q, p) if reverse else (p, q)
        rest = [c for c in range(len(z)) if c != y]
        target = kl(*(torch.stack([x[y], x[rest].sum()]) for x in (first, second)))
        nontarget = kl(*(x[rest] / x[rest].sum() for x in (first, second)))
        if u < median:
            found["easy_nontarget"].append(nontarget)
        else:
            found["hard_target"].append(target)
            found["hard_nontarget"].append(nontarget)
    return found


def ldrld(z: Tensor, t: Tensor, *, k: int, temperature: float) -> Terms:
    """Pairs of the student's k best classes, their group, and the others, of one row; 1 / K2 and T^2 included."""
    order, scale = ranked(z), k * (k - 1) / 2 + 1
    top, rest = order[:k], order[k:]
    s, u = z / temperature, t / temperature
    pairs = torch.zeros((), dtype=z.dtype)
    for i in range(1, k + 1):
        for j in range(i + 1, k + 1):
            a, b = top[i - 1], top[j - 1]
            weight = 2 * math.exp(-0.05 * (i + j)) / (1.5 + j - i)
            one, other = (torch.sigmoid(x[a] - x[b]) for x in (u, s))
            pairs = pairs + weight * kl(torch.stack([one, 1 - one]), torch.stack([other, 1 - other]))
    square = temperature**2
    inside = [kl(u[g].softmax(0), s[g].softmax(0)) if len(g) > 1 else 0 * z.sum() for g in (top, rest)]
    return {"pairs": square / scale * pairs, "top": square / scale * inside[0], "rest": square * inside[1]}


def tie(z: Tensor, t: Tensor, *, k: int) -> Terms:
    """KL and both sums of TIE-KD's ranking loss of one row at temperature 1."""
    q, p = z.softmax(0), t.softmax(0)
    a, b = ranked(t)[:k], ranked(z)[:k]
    zero = torch.zeros((), dtype=z.dtype)
    order = sum((torch.relu(q[c] - q[a[0]]) for c in a), zero)
    union = sum((torch.relu(q[d] - q[c]) for c in a for d in b if p[c] > p[d]), zero)
    return {"kl": kl(p, q), "rank_order": order, "rank_union": union}


def ltkd(student: Tensor, teacher: Tensor, groups: Sequence[Sequence[int]], *, temperature: float) -> Terms:
    """Between against the rebalanced masses, and within every group, of a batch; T^2 included, [n] each."""
    q, p = ((x / temperature).softmax(1) for x in (student, teacher))
    own, other = (torch.stack([x[:, list(g)].sum(1) for g in groups], 1) for x in (q, p))
    batch = other.sum(0)
    scale = batch.mean() / batch
    aim = scale * other / (scale * other).sum(1, keepdim=True)
    square = temperature**2
    rows = {"between": square * torch.stack([kl(m, b) for m, b in zip(aim, own, strict=True)])}
    for i, g in enumerate(groups):
        inside = [(x[:, list(g)] / x[:, list(g)].sum(1, keepdim=True)) for x in (p, q)]
        rows[f"within{i}"] = square * torch.stack([kl(*pair) for pair in zip(*inside, strict=True)])
    return {**rows, "between_target": aim}


def tpkd(z: Tensor, t: Tensor, y: int) -> tuple[Tensor, Tensor]:
    """KL(q || r) off the label, and the projected direction d of one row; l by bisection of its equation."""
    rest = [c for c in range(len(z)) if c != y]
    r, q = z[rest].softmax(0), t[rest].softmax(0)
    low, high = 0.0, 1.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if torch.relu(q - r - middle).sum().item() > middle else (low, middle)
    d = torch.zeros_like(z)
    d[y] = -low
    d[rest] = r - torch.minimum(q, r + low)
    return kl(q, r), d.detach()


def gram_direction(student: Tensor, teacher: Tensor, *, ridge: float | None) -> Tensor:
    """SKD's direction loss: distance of the Gram matrices of unit rows, row by row, by an explicit inverse."""
    unit = [z / z.norm(dim=1, keepdim=True) for z in (student, teacher)]
    d = (unit[0] @ unit[0].T - unit[1] @ unit[1].T) / student.shape[1]
    if ridge is None:
        return torch.stack([row.square().sum().sqrt() for row in d])
    centred = d - d.mean(0)
    cov = centred.T @ centred / (len(d) - 1) + ridge * torch.eye(len(d), dtype=d.dtype)
    return torch.stack([(row @ cov.inverse() @ row).sqrt() for row in d])


# -- the components of a method at the arguments of its contract, of rows -------------------------------------------


def stacked(rows: list[Terms]) -> Terms:
    """One value per row of every term."""
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def pairs_of(lg: Logits) -> list[tuple[Tensor, Tensor]]:
    """Student's and teacher's logits, row by row."""
    return list(zip(lg.student, lg.teacher, strict=True))


def gkd_rows(lg: Logits) -> Terms:
    return stacked([{"kd": gkd(z, t, beta=0.5, temperature=1.0)} for z, t in pairs_of(lg)])


def distillm_rows(lg: Logits) -> Terms:
    p, q = lg.teacher.softmax(1), lg.student.softmax(1)
    return stacked([{"kd": kl(a, 0.1 * a + 0.9 * b)} for a, b in zip(p, q, strict=True)])


def tad_rows(lg: Logits) -> Terms:
    head, inside, mass = (torch.stack(x) for x in zip(*(tad(z, t, k=3) for z, t in pairs_of(lg)), strict=True))
    return {"head": head, "tail": mass / mass.mean() * inside}


def atkd_rows(lg: Logits) -> Terms:
    terms = {name: torch.stack(rows).mean() for name, rows in atkd(lg.student, lg.teacher, lg.target).items()}
    nontarget = 0.2 * terms["easy_nontarget"] + 0.8 * terms["hard_nontarget"]
    return {"target": 0.8 * terms["hard_target"], "nontarget": nontarget}


def ldrld_rows(lg: Logits) -> Terms:
    return stacked([ldrld(z, t, k=3, temperature=4.0) for z, t in pairs_of(lg)])


def tie_rows(lg: Logits) -> Terms:
    rows = stacked([tie(z, t, k=3) for z, t in pairs_of(lg)])
    return {"kl": rows["kl"], "rank": rows["rank_order"] + rows["rank_union"]}


def ltkd_rows(lg: Logits) -> Terms:
    rows = ltkd(lg.student, lg.teacher, ((0, 1), (2, 3), (4, 5, 6)), temperature=4.0)
    rows.pop("between_target")
    return rows


def gram_rows(lg: Logits) -> Terms:
    kd = torch.stack([16 * kl((t / 4).softmax(0), (z / 4).softmax(0)) for z, t in pairs_of(lg)])
    return {"kd": kd, "direction": gram_direction(lg.student, lg.teacher, ridge=None)}


def deit_rows(lg: Logits) -> Terms:
    """DeiT's hard form: minus the log probability, at the token, of the class that the teacher holds most likely."""
    token = lg.token.student
    return {"hard": torch.stack([-token[i].softmax(0)[ranked(lg.teacher[i])[0]].log() for i in range(lg.rows)])}


def deit_published_rows(lg: Logits) -> Terms:
    """Its soft form at T = 3, divided by the number of classes as its code divides."""
    token, classes = lg.token.student, lg.classes
    return {
        "kd": torch.stack([gkd(token[i], lg.teacher[i], beta=0, temperature=3.0) / classes for i in range(lg.rows)])
    }
