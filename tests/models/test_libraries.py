"""Stems for small images: the first map keeps the image's size, and only what must change does."""

from __future__ import annotations

import re
import urllib.error
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fractionate import models
from fractionate.models import libraries
from fractionate.models.libraries import PLACES, small_stem

TORCHVISION = ["resnet18", "densenet121", "shufflenet_v2_x0_5", "regnet_y_400mf", "mobilenet_v2", "efficientnet_b0"]
TIMM = ["resnet18", "resnet26d", "densenet121", "regnety_002", "efficientnet_b0", "mobilenetv3_small_050"]


class ResNet(nn.Module):
    """The outline of a library's ResNet; the table goes by the name of the class."""

    def __init__(self, first: nn.Module, pooling: str = "maxpool") -> None:
        super().__init__()
        self.conv1 = first
        self.add_module(pooling, nn.MaxPool2d(3, 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.maxpool(self.conv1(x))


def seven() -> nn.Conv2d:
    return nn.Conv2d(3, 8, 7, stride=2, padding=3, bias=False)


def test_a_wide_convolution_becomes_three_by_three_and_the_pooling_goes() -> None:
    net = ResNet(seven())
    small_stem(net, "torchvision", "mine")
    assert (net.conv1.kernel_size, net.conv1.stride, net.conv1.bias) == ((3, 3), (1, 1), None)
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 8, 32, 32)


def test_a_three_by_three_convolution_keeps_its_weights() -> None:
    first = nn.Conv2d(3, 8, 3, stride=2, padding=1)
    before = first.weight.clone()
    net = ResNet(nn.Sequential(first, nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)))
    small_stem(net, "timm", "mine")
    assert torch.equal(net.conv1[0].weight, before)
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 8, 32, 32)


@pytest.mark.parametrize("net", [ResNet(nn.Identity()), ResNet(seven(), pooling="pool")])
def test_another_stem_under_a_known_name_is_refused_and_left_alone(net: nn.Module) -> None:
    before = repr(net)
    with pytest.raises(ValueError, match="timm:mine cannot take stem='small': its stem is not that of the other ResN"):
        small_stem(net, "timm", "mine")
    assert repr(net) == before


def test_a_network_without_known_stem_is_told_which_have_one() -> None:
    with pytest.raises(
        ValueError, match=r"could safely be replaced in Linear; they are in torchvision: ResNet, .*timm:"
    ):
        small_stem(nn.Linear(2, 2), "timm", "vit")


@pytest.mark.usefixtures("unchecked")
def test_our_own_networks_have_one_stem() -> None:
    with pytest.raises(ValueError, match="'resnet20' has one stem only"):
        models.create("resnet20", num_classes=10, stem="small")
    with pytest.raises(ValueError, match="unknown stem 'smal': did you mean 'small'"):
        models.create("resnet20", num_classes=10, stem="smal")


@pytest.mark.parametrize("name", [*(f"torchvision:{n}" for n in TORCHVISION), *(f"timm:{n}" for n in TIMM)])
def test_the_first_map_of_a_library_s_network_is_as_large_as_the_image(name: str) -> None:
    library = name.partition(":")[0]
    pytest.importorskip(library)
    net = models.create(name, num_classes=7, stem="small").eval()
    sizes = []
    first = net.get_submodule(PLACES[library][type(net).__name__][0])
    first.register_forward_hook(lambda module, inputs, output: sizes.append(tuple(output.shape[2:])))
    assert net(torch.zeros(1, 3, 32, 32)).shape == (1, 7)
    assert sizes == [(32, 32)]


def test_the_small_stem_changes_one_convolution_of_a_resnet_and_nothing_else() -> None:
    pytest.importorskip("torchvision")
    default, small = (
        {k: v.shape for k, v in models.create("torchvision:resnet18", num_classes=7, stem=stem).state_dict().items()}
        for stem in ("default", "small")
    )
    assert {k for k in default if default[k] != small.get(k)} == {"conv1.weight"}
    assert set(default) == set(small)


def test_a_network_of_patches_is_refused() -> None:
    pytest.importorskip("torchvision")
    with pytest.raises(ValueError, match="torchvision:vit_b_32 cannot take stem='small'"), torch.device("meta"):
        models.create("torchvision:vit_b_32", num_classes=7, stem="small")


@pytest.fixture
def transformers_folder(tmp_path: Path) -> Path:
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config = transformers.ViTConfig(**sizes, image_size=8, patch_size=4, num_labels=3)
    transformers.ViTForImageClassification(config).half().save_pretrained(tmp_path)
    return tmp_path


def test_a_folder_of_transformers_gives_its_logits_in_full_precision(transformers_folder: Path) -> None:
    net = models.create(f"hf:{transformers_folder}", num_classes=3, pretrained=True)
    x = torch.randn(2, 3, 8, 8)
    assert {p.dtype for p in net.parameters()} == {torch.float32}
    assert torch.equal(models.logits_of(net, x), net(x).logits)
    again = models.create(f"hf:{transformers_folder}", num_classes=3, pretrained=True)
    assert torch.equal(models.logits_of(again, x), net(x).logits)


def test_a_folder_of_transformers_builds_a_new_network_with_other_classes(transformers_folder: Path) -> None:
    net = models.create(f"hf:{transformers_folder}", num_classes=5)
    assert models.classes_of(net, torch.randn(2, 3, 8, 8), trained=True) == 5
    with pytest.raises(ValueError, match="do not have 5 classes but 3"):
        models.create(f"hf:{transformers_folder}", num_classes=5, pretrained=True)
    with pytest.raises(ValueError, match="cannot take stem='small'"):
        models.create(f"hf:{transformers_folder}", num_classes=5, stem="small")


def test_a_folder_that_transformers_cannot_read_is_one_sentence(transformers_folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        models.create(f"hf:{transformers_folder}/none", num_classes=3)
    (transformers_folder / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(ValueError, match="cannot be built") as found:
        models.create(f"hf:{transformers_folder}", num_classes=3, pretrained=True)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    "name",
    ["torchvision:resnet18", "torchvision:lraspp_mobilenet_v3_large", "fasterrcnn-resnet18", "smp:fpn-resnet18"],
)
def test_weights_that_cannot_be_fetched_are_said_with_what_to_do(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("segmentation_models_pytorch" if name.startswith("smp:") else "torchvision")

    def unreachable(*given: object, **more: object) -> None:
        raise urllib.error.URLError("no such host")

    monkeypatch.setattr(torch.hub, "urlopen", unreachable)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(libraries, "_network", lambda: False)
    monkeypatch.setattr(libraries, "_cache", lambda hub: str(tmp_path / "hub"))
    with pytest.raises(
        ValueError, match=f"the weights of {re.escape(name)} are not on this machine.*(fetch http|copy the folder)"
    ):
        models.create(name, num_classes=1000, pretrained=True)


def test_a_wrong_name_is_said_before_anything_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("segmentation_models_pytorch")
    monkeypatch.setattr(libraries, "_network", lambda: False)
    with pytest.raises(ValueError, match="encoder of segmentation-models-pytorch 'nothing'"):
        models.create("smp:fpn-nothing", num_classes=2, pretrained=True)
