"""MobileNetV1 has the size, the keys and the cost of the published network."""

from __future__ import annotations

import torch
from torch import nn

from fractionate.models import create


def test_size_keys_and_cost_are_those_of_the_published_network() -> None:
    net = create("mobilenet_v1", num_classes=1000)
    assert sum(p.numel() for p in net.parameters()) == 4_231_976
    assert (len(list(net.parameters())), len(net.state_dict())) == (83, 164)
    keys = set(net.state_dict())
    assert {"model.0.0.weight", "model.0.1.bias", "model.13.3.weight", "model.13.4.running_var", "fc.weight"} <= keys
    count = 0

    def add(module: nn.Conv2d, given: tuple[torch.Tensor], out: torch.Tensor) -> None:
        nonlocal count
        count += module.weight.numel() * out.shape[2] * out.shape[3]

    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(add)
    with torch.no_grad():
        taps = net.eval().features(torch.zeros(1, 3, 224, 224))
    assert round((count + net.fc.weight.numel()) / 1e6) == 569
    assert taps[-2].shape == (1, 1024, 7, 7)


def test_forward_is_the_layers_one_after_the_other() -> None:
    torch.manual_seed(0)
    net = create("mobilenet_v1", num_classes=5).eval()
    x = torch.randn(2, 3, 64, 64)
    twin = x
    for block in net.model:
        for layer in block:
            twin = layer(twin)
    twin = nn.functional.avg_pool2d(twin, 2)[:, :, 0, 0] @ net.fc.weight.T + net.fc.bias
    with torch.no_grad():
        assert torch.allclose(net(x), twin, atol=1e-5)
