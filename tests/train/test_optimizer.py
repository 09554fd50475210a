"""Which parameters are decayed, and at which rate each layer learns, by the rules of the config."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from fractionate.config.optimizers import SGD, AdamW, LearningRate
from fractionate.config.run import Monitors, Network
from fractionate.train.build import prepare
from fractionate.train.loop import Loop
from fractionate.train.optimizer import depths, grouped, merging, streams_of
from tests.train.runs import tiny

Optimizer = SGD | AdamW
KINDS = pytest.mark.parametrize("kind", [SGD, AdamW])


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.mlp = nn.LayerNorm(8), nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.mlp(self.norm(x))


class Transformer(nn.Module):
    """As transformers are built: patches, a token, places, blocks in one list, a norm, a head."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 8))
        self.pos_embed = nn.Parameter(torch.zeros(1, 5, 8))
        self.patch = nn.Conv2d(1, 8, 4, 4)
        self.kinds = nn.Embedding(2, 8)
        self.blocks = nn.ModuleList([Block() for _ in range(3)])
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.patch(images).flatten(2).mT + self.kinds.weight[0]
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x[:, 0]))


def told(net: nn.Module, groups: Any, option: str, default: float) -> dict[str, float]:
    """An option of every parameter by name."""
    names = {id(p): name for name, p in net.named_parameters()}
    return {names[id(p)]: group.get(option, default) for group in groups for p in group["params"] if id(p) in names}


@KINDS
def test_weight_decay_spares_norms_biases_and_embeddings(kind: type[Optimizer]) -> None:
    net = Transformer()
    decay = told(net, grouped(kind(decay="weights"), net), "weight_decay", 0.05)
    weights = {"patch.weight", "head.weight", *(f"blocks.{i}.mlp.{j}.weight" for i in range(3) for j in (0, 2))}
    assert {name for name, value in decay.items() if value} == weights
    assert decay.keys() == dict(net.named_parameters()).keys()


@KINDS
def test_rates_fall_by_one_factor_from_each_block_to_the_one_before(kind: type[Optimizer]) -> None:
    net = Transformer()
    groups = grouped(kind(lr=1.0, layer_decay=0.5, decay="weights"), net)
    rates = told(net, groups, "lr", math.nan)
    for name, rate in rates.items():
        block = int(name.split(".")[1]) + 1 if name.startswith("blocks") else 4 * name.startswith(("norm", "head"))
        assert rate == 0.5 ** (4 - block), name
    assert rates.keys() == dict(net.named_parameters()).keys()
    assert groups[0]["lr"] == 1.0


def test_timm_s_networks_say_their_depth_themselves() -> None:
    timm = pytest.importorskip("timm")
    net = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2, num_classes=10)
    rates = told(net, grouped(AdamW(lr=1.0, layer_decay=0.5, decay="weights"), net), "lr", math.nan)
    assert [rates[n] for n in ("pos_embed", "blocks.0.norm1.bias", "blocks.1.mlp.fc1.weight", "head.bias")] == [
        1 / 8,
        1 / 4,
        1 / 2,
        1.0,
    ]
    theirs = pytest.importorskip("timm.optim").param_groups_layer_decay(
        net, weight_decay=0.3, layer_decay=0.5, no_weight_decay_list=net.no_weight_decay()
    )
    assert rates == told(net, theirs, "lr_scale", math.nan)
    decays = told(net, grouped(AdamW(decay="weights"), net), "weight_decay", 0.3)
    assert decays == told(net, theirs, "weight_decay", math.nan)


@pytest.mark.parametrize(
    ("net", "why"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), "no list of blocks"),
        (nn.ModuleDict({"a": nn.ModuleList([Block(), Block()]), "b": nn.ModuleList([Block(), Block()])}), "2 lists"),
    ],
    ids=["none", "two"],
)
def test_a_network_of_unknown_depth_is_refused(net: nn.Module, why: str) -> None:
    with pytest.raises(ValueError, match=f"layer_decay.*{why}"):
        depths(net)


def test_without_a_rule_there_are_no_groups() -> None:
    net = nn.Linear(2, 2)
    assert grouped(SGD(), net) == [*net.parameters()]


def test_what_a_method_learns_has_the_whole_rate_and_no_decay() -> None:
    net, module = Transformer(), nn.ParameterList([nn.Parameter(torch.zeros(1))])
    groups = grouped(AdamW(lr=1.0, layer_decay=0.5, decay="weights"), net, module)
    (group,) = [g for g in groups if any(p is module[0] for p in g["params"])]
    assert (group["lr"], group["weight_decay"]) == (1.0, 0.0)


@pytest.mark.parametrize("method", ["ce", "dkd+deepkd"])
def test_a_transformer_is_trained_by_adamw_with_every_rule_at_once(method: str) -> None:
    """Warm-up and cosine by steps, groups, clipping, an average, the update's size; labels are learnt."""
    optimizer = AdamW(lr=3e-3, weight_decay=0.05, decay="weights", layer_decay=0.75, clip=1.0, clip_rms=1.0)
    run = tiny(
        method,
        optimizer=optimizer,
        learning_rate=LearningRate("cosine", warmup_epochs=1, per="step"),
        student=Network("tests.train.test_optimizer:Transformer"),
        monitors=Monitors(update_rms=True),
        ema=0.9,
        epochs=4,
    )
    run = replace(run, data=replace(run.data, labels_per_class=8, batch_size=16))
    loop = Loop(prepare(run))
    seen: list[list[float]] = []
    loop_rates = lambda: seen.append([g["lr"] for g in loop.training.optimizer.param_groups])  # noqa: E731
    records = list(loop.records(loop_rates))
    ratios = [[lr / rates[0] for lr in rates] for rates in seen]
    assert all(r == pytest.approx(ratios[0]) for r in ratios)  # groups move together
    first = [rates[0] for rates in seen]
    peak = first.index(max(first))
    assert all(a < b for a, b in itertools.pairwise(first[: peak + 1]))
    assert all(a > b for a, b in itertools.pairwise(first[peak:]))
    assert records[-1].train_loss < records[0].train_loss
    assert all(0 < r.columns()["update_rms"] <= r.columns()["update_rms/largest"] <= 1 + 1e-6 for r in records)


def test_the_size_of_updates_is_observed_of_adamw_alone() -> None:
    with pytest.raises(ValueError, match="update_rms observes adamw"):
        tiny("ce", monitors=Monitors(update_rms=True))


@pytest.mark.parametrize("value", [0.0, -1.0, 1.5])
def test_a_layer_decay_lies_between_0_and_1(value: float) -> None:
    with pytest.raises(ValueError, match="layer_decay"):
        AdamW(layer_decay=value)


@pytest.mark.parametrize("method", ["kd", "kd+deepkd(delta=0.0)", "dkd+deepkd"])
def test_a_bound_on_streams_does_the_same_whether_they_are_watched_or_not(method: str) -> None:
    run = tiny(method, optimizer=SGD(lr=0.05, clip_streams=0.3), epochs=1)
    seen = []
    for monitors in (Monitors(), Monitors(norms=True)):
        training = prepare(replace(run, monitors=monitors))
        list(Loop(training).records())
        seen.append([p.detach().clone() for p in training.student.parameters()])
    for a, b in zip(*seen, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-6)


def test_a_bound_on_streams_keeps_them_apart_and_refuses_their_merging() -> None:
    run = tiny("kd+deepkd(delta=0.0)", optimizer=SGD(lr=0.05, clip_streams=0.3))
    method = run.method.build()
    assert merging(run, method) is False
    assert len(streams_of(run, method, False)[2]) == len(method.streams) > 1
    with pytest.raises(ValueError, match="leave merge out"):
        replace(run, merge=True)
