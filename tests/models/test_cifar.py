"""The CIFAR networks: layouts, counts and forward values of the published ones, and how they treat batch norm."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fractionate.models.cifar import ALIASES, CIFAR
from fractionate.models.plain import VGG
from fractionate.models.residual import ResNet, WideResNet
from tests import golden
from tests.asserts import assert_equal
from tests.golden.weights import fill

GOLDEN = golden.table("models.json")["models"]
VALUES = [(record, value) for record in GOLDEN for value in record["evaluations"]]

# name: parameters, parameter tensors, state-dict entries, millions of multiply-adds (None: not published).
PUBLISHED = {
    "resnet8": (83_892, 29, 56, None),
    "resnet14": (181_108, None, None, None),
    "resnet20": (278_324, 65, 128, 40.8),
    "resnet32": (472_756, 101, 200, 69.1),
    "resnet44": (667_188, 137, 272, None),
    "resnet56": (861_620, 173, 344, 125.8),
    "resnet110": (1_736_564, 335, 668, 253.2),
    "resnet8x4": (1_233_540, 32, 62, 177.1),
    "resnet32x4": (7_433_860, 104, 206, 1083.0),
    "wrn_16_1": (180_916, 43, 82, None),
    "wrn_16_2": (703_284, 44, 83, 101.1),
    "wrn_40_1": (569_780, 115, 226, 83.3),
    "wrn_40_2": (2_255_156, 116, 227, 327.6),
    "vgg8": (3_965_028, 22, 37, 96.2),
    "vgg11": (9_277_284, 34, 58, None),
    "vgg13": (9_462_180, 42, 72, 284.9),
    "vgg16": (14_774_436, None, None, None),
    "vgg19": (20_086_692, None, None, None),
    "mobilenet_v2": (812_836, 161, 320, 6.5),
    "shufflenet_v1": (949_258, 149, 296, 38.7),
    "shufflenet_v2": (1_355_528, 170, 338, 44.5),
    "resnet18": (11_220_132, None, None, None),
    "resnet50": (23_705_252, 161, 320, 1298.0),
}
ONE_OF_EACH_FAMILY = ("resnet8", "wrn_16_1", "vgg8", "mobilenet_v2", "shufflenet_v1", "shufflenet_v2", "resnet18")


def create(name: str, num_classes: int = 100) -> nn.Module:
    return CIFAR[ALIASES.get(name, name)](num_classes)


def images(n: int, size: int = 32) -> Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("record", GOLDEN, ids=lambda record: record["name"])
def test_state_dict_has_the_published_keys_and_shapes_in_order(record: dict[str, Any]) -> None:
    with torch.device("meta"):
        net = create(record["name"])
    assert [[key, list(value.shape)] for key, value in net.state_dict().items()] == record["keys"]


@pytest.mark.parametrize(
    ("record", "value"), VALUES, ids=[f"{r['name']}-{v['num_classes']}-{v['size']}" for r, v in VALUES]
)
def test_forward_equals_the_published_network(record: dict[str, Any], value: dict[str, Any]) -> None:
    net = fill(create(record["name"], value["num_classes"]).double()).eval()
    arrays = golden.arrays("models.npz")
    x = torch.from_numpy(arrays[value["input"]])
    with torch.no_grad():
        logits, taps = net(x), net.features(x)
    golden.assert_close(logits, torch.from_numpy(arrays[value["logits"]]), "logits")
    golden.assert_close(taps[-1], torch.from_numpy(arrays[value["pooled_feature"]]), "pooled vector")
    published = value["feature_shapes"]
    assert [list(tap.shape) for tap in taps[: len(published)]] == published


def test_every_network_has_its_published_counts() -> None:
    assert PUBLISHED.keys() == CIFAR.keys()


@pytest.mark.parametrize("name", CIFAR)
def test_counts_equal_the_published_ones(name: str) -> None:
    with torch.device("meta"):
        net = create(name)
        macs = multiply_adds(net, torch.empty(1, 3, 32, 32))
    tensors = list(net.parameters())
    found = (sum(p.numel() for p in tensors), len(tensors), len(net.state_dict()), round(macs / 1e6, 1))
    for count, published in zip(found, PUBLISHED[name], strict=True):
        assert published in (None, count)


def multiply_adds(net: nn.Module, x: Tensor) -> int:
    """Multiply-adds of all convolutions and linear layers for one image."""
    total = 0

    def count(layer: nn.Module, _: Any, out: Tensor) -> None:
        nonlocal total
        total += out[0].numel() * layer.weight[0].numel()

    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    net.eval()(x)
    return total


def test_aliases_name_networks_and_shadow_none() -> None:
    assert set(ALIASES.values()) <= set(CIFAR)
    assert not set(ALIASES) & set(CIFAR)


@pytest.mark.parametrize("name", ONE_OF_EACH_FAMILY)
def test_last_tap_is_the_mean_of_the_map_before_it_and_enters_the_only_linear_layer(name: str) -> None:
    net, x = create(name, 7).eval(), images(2)
    (head,) = (layer for layer in net.modules() if isinstance(layer, nn.Linear))
    with torch.no_grad():
        *_, last, pooled = net.features(x)
        assert_equal(pooled, last.mean((2, 3)), "pooled", 1e-6)
        assert_equal(net(x), head(pooled), "logits", 1e-6)


@pytest.mark.parametrize("name", ONE_OF_EACH_FAMILY)
def test_a_step_reaches_every_parameter_and_every_statistic_once(name: str) -> None:
    net = create(name, 7).train()
    net(images(4)).logsumexp(1).sum().backward()
    assert [key for key, p in net.named_parameters() if p.grad is None] == []
    seen = {key: int(v) for key, v in net.state_dict().items() if key.endswith("num_batches_tracked")}
    assert set(seen.values()) == {1}


@pytest.mark.parametrize("name", ONE_OF_EACH_FAMILY)
def test_larger_images_and_other_memory_layouts_work(name: str) -> None:
    net, x = create(name, 7).eval(), images(2, size=64)
    with torch.no_grad():
        expected = net(x)
        assert expected.shape == (2, 7)
        net, x = (value.to(memory_format=torch.channels_last) for value in (net, x))
        assert_equal(net(x), expected, "channels last", 1e-4)


@pytest.mark.parametrize("name", ["resnet8x4", "wrn_16_2", "vgg8", "mobilenet_v2", "resnet18"])
def test_convolutions_start_with_the_variance_that_keeps_gradients_in_scale(name: str) -> None:
    for layer in create(name).modules():
        if isinstance(layer, nn.Conv2d) and layer.weight.numel() > 4000:
            expected = (2 / (layer.out_channels * layer.kernel_size[0] ** 2)) ** 0.5
            assert abs(float(layer.weight.detach().std()) / expected - 1) < 0.05


def test_published_bn_moves_three_statistics_twice_and_nothing_else() -> None:
    once, twice = WideResNet(16, 1, num_classes=7), WideResNet(16, 1, num_classes=7, published_bn=True)
    twice.load_state_dict(once.state_dict())
    start = {key: value.clone() for key, value in once.state_dict().items()}
    x = images(4)
    assert torch.equal(once(x), twice(x))
    a, b = once.state_dict(), twice.state_dict()
    doubled = {"block2.layer.0.bn1", "block3.layer.0.bn1", "bn1"}
    for key in a:
        layer, _, entry = key.rpartition(".")
        if layer not in doubled or entry in ("weight", "bias"):
            assert torch.equal(a[key], b[key]), key
        elif entry == "num_batches_tracked":
            assert (int(a[key]), int(b[key])) == (1, 2)
        else:  # momentum 0.1 once, 0.19 = 1 - 0.9^2 in two looks at the same batch
            assert_equal((b[key] - start[key]) / 0.19, (a[key] - start[key]) / 0.1, key, 1e-5)


def test_published_bn_changes_nothing_in_evaluation() -> None:
    net = WideResNet(16, 1, num_classes=7, published_bn=True).eval()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    net(images(2))
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize("build", [lambda: ResNet(9, num_classes=7), lambda: WideResNet(15, 1, num_classes=7)])
def test_a_depth_between_the_possible_ones_is_refused(build: Any) -> None:
    with pytest.raises(ValueError, match=r"depth must be 6 m \+ [24]"):
        build()


def test_an_unknown_vgg_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"one of \[8, 11, 13, 16, 19\], got 9"):
        VGG(9, num_classes=7)
