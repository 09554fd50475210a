"""A method is a value: pickled and deep-copied ones compute the same, and share nothing that learns."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch

import fractionate as fr
from fractionate import Method
from tests import asserts
from tests.methods.contract_rows import TABLE

M = fr.methods
COPIES: dict[str, Callable[[Method], Method]] = {
    "pickle": lambda method: pickle.loads(pickle.dumps(method)),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("name", TABLE)
def test_a_copy_computes_the_same(name: str, copied: Callable[[Method], Method]) -> None:
    method, contract = TABLE[name].make(), TABLE[name].contract
    twin, lg, at = copied(method), contract.rows(), contract.progress
    asserts.assert_same(twin.components(lg, at), method.components(lg, at), rtol=0.0)
    asserts.assert_same(twin.stream_losses(lg, at), method.stream_losses(lg, at), rtol=0.0)
    assert repr(twin) == repr(method)
    assert dict(twin.momenta(0.5)) == dict(method.momenta(0.5))


@pytest.mark.parametrize("name", TABLE)
def test_a_copy_can_be_made_again_with_other_arguments(name: str) -> None:
    method = pickle.loads(pickle.dumps(TABLE[name].make()))
    if method.origin is not None and method.origin.finds("ce_weight"):
        assert method.with_args(ce_weight=3.0).parts["task"].role == "task"


@pytest.mark.parametrize("copied", [COPIES["pickle"], COPIES["deepcopy"]], ids=["pickle", "deepcopy"])
@pytest.mark.parametrize("wrap", [lambda m: m, M.deepkd, lambda m: M.lskd(m, temperature=None)])
def test_a_copy_of_a_learned_temperature_learns_alone(
    copied: Callable[[Method], Method], wrap: Callable[[Method], Method]
) -> None:
    method = wrap(M.ctkd(M.dkd()))
    with torch.no_grad():
        method.module.theta.fill_(0.5)
    twin, lg = copied(method), TABLE["dkd"].contract.rows()
    before = method.loss(lg)
    asserts.assert_equal(twin.loss(lg), before)
    with torch.no_grad():
        twin.module.theta.fill_(-3.0)
    assert not torch.equal(twin.loss(lg), before)
    asserts.assert_equal(method.loss(lg), before, rtol=0.0)
