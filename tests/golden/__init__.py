"""Loads the golden cases and compares results with them at the tolerance they come with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

HERE = Path(__file__).parent


@cache
def table(name: str) -> Any:
    """A JSON file of this folder."""
    return json.loads((HERE / name).read_text())


@cache
def arrays(name: str) -> dict[str, np.ndarray]:
    """An npz file of this folder, in memory."""
    with np.load(HERE / name) as file:
        return dict(file)


@dataclass(frozen=True, eq=False)
class Case:
    """One row of ``index.json``; tensors are fresh copies, so one case never influences another."""

    record: dict[str, Any]

    @property
    def id(self) -> str:
        return self.record["id"]

    @property
    def method(self) -> str:
        return self.record["method"]

    @property
    def hyper(self) -> dict[str, Any]:
        return self.record["hyper"]

    @property
    def outputs(self) -> dict[str, Any]:
        return self.record["outputs"]

    def array(self, key: str) -> Tensor:
        return torch.from_numpy(arrays(self.record["file"])[key].copy())

    def inputs(self) -> dict[str, Tensor]:
        """Role -> tensor; the student's logits are leaves that record gradients."""
        tensors = {role: self.array(key) for role, key in self.record["inputs"].items()}
        for role, tensor in tensors.items():
            if role.startswith("student"):
                tensor.requires_grad_()
        return tensors


def cases(family: str, *, check: str = "reference", second: bool = False, folder: str = "") -> list[Case]:
    """The cases of a family that must be reproduced: ``losses``, ``optim``, ...; those of a folder, if one is named."""
    folder = "second/" if second else f"{folder}/" if folder else ""
    records = table(f"{folder}index.json")["cases"]
    chosen = [r for r in records if r["family"] == family and r["check"] == check]
    return [Case({**r, "file": f"{folder}{r['file']}"}) for r in chosen]


def schedules() -> list[dict[str, Any]]:
    """The records of ``schedules.json``: hyper-parameters, epochs and values, as plain lists."""
    return table("schedules.json")["cases"]


def assert_close(value: Tensor, reference: Tensor, what: str, rtol: float | None = None) -> None:
    """The rule of ``index.json``: max|x - ref| <= rtol * max|ref| + atol, per array.

    Where the published code itself returned nan (the temperature gradient of CTKD over DKD), being
    finite is asked.
    """
    rule = table("index.json")["tolerance"]
    if reference.numel() == value.numel() == 1:  # some code returns its loss as a vector of one
        reference = reference.reshape(value.shape)
    assert value.shape == reference.shape, f"{what}: shape {value.shape}, golden {reference.shape}"
    if not bool(reference.isfinite().all()):
        assert bool(value.isfinite().all()), f"{what}: not finite"
        return
    error = float((value.detach() - reference).abs().max())
    bound = (rtol or rule["rtol"]) * float(reference.abs().max()) + rule["atol"]
    assert error <= bound, f"{what}: off by {error:.3e}, allowed {bound:.3e}"


def assert_matches(case: Case, results: Mapping[str, Tensor], inputs: Mapping[str, Tensor]) -> None:
    """Every output of a loss case: total and terms with their gradients, anything else by value.

    Args:
        case: the golden case.
        results: ``total``, every term, and every further output of the case, by golden name.
        inputs: what ``case.inputs()`` returned, from which ``results`` were computed.
    """
    outputs = dict(case.outputs)
    scalars = {"total": outputs.pop("total"), **outputs.pop("terms", {})}
    students = [role for role in inputs if role.startswith("student")]
    for name, keys in scalars.items():
        assert_close(results[name], case.array(keys["value"]), f"{case.id} {name}", case.record.get("rtol"))
        for role, key in _gradient_keys(keys["grad"], students).items():
            grad = _gradient(results[name], inputs[role])
            assert_close(grad, case.array(key), f"{case.id} gradient of {name} in {role}", case.record.get("rtol"))
    for name, key in outputs.items():
        assert_close(results[name], case.array(key), f"{case.id} {name}", case.record.get("rtol"))


def _gradient_keys(grad: str | dict[str, str], students: list[str]) -> dict[str, str]:
    if isinstance(grad, str):
        (student,) = students
        return {student: grad}
    return grad


def _gradient(value: Tensor, leaf: Tensor) -> Tensor:
    """d value / d leaf; zeros where the value does not depend on the leaf."""
    (grad,) = torch.autograd.grad(value, leaf, retain_graph=True, allow_unused=True)
    return torch.zeros_like(leaf) if grad is None else grad
