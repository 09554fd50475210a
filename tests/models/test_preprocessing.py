"""Every network sees pixels as those who trained it prepared them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fractionate.data import Normalization
from fractionate.models import Preprocessing, create, preprocessing_of
from tests.asserts import assert_equal

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
GREY = Preprocessing(None, mean=(0.3,), std=(0.4,))


def picture(height: int, width: int) -> Any:
    """A smooth coloured picture, as photos are."""
    from PIL import Image

    seed = torch.randint(0, 256, (6, 6, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Image.fromarray(seed.numpy()).resize((width, height), Image.Resampling.BICUBIC)


def pixels_of(image: Any) -> Tensor:
    import numpy as np

    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255


def test_pictures_of_the_right_size_are_only_normalised() -> None:
    x = torch.rand(3, 3, 8, 9)
    mean, std = (torch.tensor(IMAGENET[k])[:, None, None] for k in ("mean", "std"))
    assert torch.equal(Preprocessing((8, 9), **IMAGENET)(x), (x - mean) / std)
    assert torch.equal(Preprocessing(None, **IMAGENET)(x), (x - mean) / std)


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "mobilenetv3_small_050", "efficientnet_b1"])
def test_a_network_of_timm_sees_what_timm_s_own_transform_gives(name: str) -> None:
    timm = pytest.importorskip("timm")
    net = create(f"timm:{name}", num_classes=3)
    theirs = timm.data.create_transform(**timm.data.resolve_model_data_config(net), is_training=False)
    ours = preprocessing_of(net, f"timm:{name}", pretrained=True)
    assert ours is not None
    whole = picture(300, 400)
    *before, _tensor, _normalise = theirs.transforms  # resize and crop, which are the data's
    cropped = whole
    for step in before:
        cropped = step(cropped)
    assert_equal(ours(pixels_of(cropped))[0], theirs(whole), "same pixels", 1e-4)
    assert ours.shorter_side == before[0].size


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("vit_tiny_patch16_224(img_size=64, depth=1)", (64, 64)),
        ("swin_tiny_patch4_window7_224(img_size=(112, 56), depths=(1, 1, 1, 1))", (112, 56)),
    ],
)
def test_a_network_that_is_built_for_a_size_is_shown_that_size(name: str, size: tuple[int, int]) -> None:
    pytest.importorskip("timm")
    net = create(f"timm:{name}", num_classes=3).eval()
    wanted = preprocessing_of(net, f"timm:{name}", pretrained=True)
    assert wanted is not None
    assert wanted.size == size
    assert net(wanted(torch.rand(1, 3, 80, 90))).shape == (1, 3)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(32, 32), (160, 96)])
def test_resizing_is_torchvision_s_and_pillow_s_up_to_a_byte_s_rounding(
    interpolation: str, size: tuple[int, int]
) -> None:
    functional = pytest.importorskip("torchvision.transforms.v2.functional")
    mode = pytest.importorskip("torchvision").transforms.InterpolationMode(interpolation)
    image = picture(96, 80)
    found = Preprocessing(size, mean=(0.0,) * 3, std=(1.0,) * 3, interpolation=interpolation)(pixels_of(image))
    resized = functional.resize(pixels_of(image), list(size), interpolation=mode, antialias=True).clamp(0, 1)
    assert_equal(found, resized, "torchvision", 1e-5)
    by_pillow = pixels_of(functional.resize(image, list(size), interpolation=mode))
    assert float((found - by_pillow).abs().max()) < 2.1 / 255  # rounded after each of two directions


def test_nearest_takes_pixels_as_they_are() -> None:
    x = torch.rand(1, 1, 4, 4)
    half = Preprocessing((2, 2), mean=(0.0,), std=(1.0,), interpolation="nearest")(x)
    assert set(half.flatten().tolist()) <= set(x.flatten().tolist())


def test_gradients_types_and_layouts_pass_through() -> None:
    x = torch.rand(2, 1, 6, 6, dtype=torch.float64).to(memory_format=torch.channels_last).requires_grad_()
    Preprocessing((3, 3), mean=(0.3,), std=(0.4,))(x).sum().backward()
    assert x.grad is not None
    assert GREY(torch.rand(2, 1, 3, 3).half()).dtype == torch.float16


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "pixels", [torch.zeros(1, 1, 2, 2, dtype=torch.uint8), torch.zeros(1, 3, 2, 2), torch.zeros(2, 2)]
)
def test_other_pixels_are_refused(pixels: Tensor) -> None:
    with pytest.raises(ValueError, match=r"pixels are floating-point \[n, 1, h, w\] in 0..1, got"):
        GREY(pixels)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "changes",
    [{"std": (0.0,)}, {"mean": (0.1, 0.2)}, {"size": (0, 3)}, {"crop_pct": 1.5}, {"interpolation": "bicubical"}],
)
def test_numbers_that_contradict_each_other_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"Preprocessing|did you mean 'bicubic'"):
        Preprocessing(**({"size": (2, 2), "mean": (0.5,), "std": (0.5,)} | changes))


def test_torchvision_s_weights_say_how_their_pictures_were_prepared() -> None:
    pytest.importorskip("torchvision")
    found = preprocessing_of(nn.Identity(), "torchvision:resnet50", pretrained=True)
    assert found == Preprocessing((224, 224), **IMAGENET, crop_pct=224 / 232)
    assert found.shorter_side == 232


def test_networks_that_have_seen_no_pictures_take_those_of_the_data() -> None:
    for name in ("resnet20", "torchvision:resnet18", "my_nets:small"):
        assert preprocessing_of(nn.Identity(), name) is None
    assert preprocessing_of(nn.Identity(), "resnet20", pretrained=True) is None


def test_a_network_of_one_s_own_says_it_by_an_attribute() -> None:
    net = nn.Identity()
    net.preprocessing = GREY
    assert preprocessing_of(net, "my_nets:small") is GREY
    net.preprocessing = {"mean": 0}
    with pytest.raises(ValueError, match=r"attribute preprocessing of model 'my_nets:small'.*got dict"):
        preprocessing_of(net, "my_nets:small")


@pytest.mark.parametrize(
    ("said", "size", "crop_pct"),
    [
        ({"size": {"height": 224, "width": 192}, "resample": 3}, (224, 192), 1.0),
        ({"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}}, (224, 224), 0.875),
        ({"size": 96}, (96, 96), 1.0),
    ],
)
def test_a_folder_of_transformers_says_it_in_its_processor_s_file(
    said: dict[str, Any], size: tuple[int, int], crop_pct: float, tmp_path: Path
) -> None:
    name = f"hf:{tmp_path}"
    assert preprocessing_of(nn.Identity(), name, pretrained=True) is None
    content = {**said, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.2]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(content))
    found = preprocessing_of(nn.Identity(), name, pretrained=True)
    way = "bicubic" if "resample" in said else "bilinear"
    assert found == Preprocessing(size, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.2), interpolation=way, crop_pct=crop_pct)
    (tmp_path / "preprocessor_config.json").write_text("[" * 5000)
    with pytest.raises(ValueError, match=r"preprocessor_config\.json does not say"):
        preprocessing_of(nn.Identity(), name, pretrained=True)


@pytest.mark.parametrize(
    "said",
    [
        {"do_rescale": False, "image_mean": [127.5, 127.5, 127.5], "image_std": [127.5, 127.5, 127.5]},
        {"rescale_factor": 1 / 127.5, "image_mean": [1.0, 1.0, 1.0], "image_std": [1.0, 1.0, 1.0]},
        {"rescale_factor": 1 / 127.5, "rescale_offset": True, "do_normalize": False},
        {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]},
        {"rescale_factor": 1 / 127.5, "do_rescale": False, "image_mean": [127.5] * 3, "image_std": [127.5] * 3},
    ],
    ids=["none", "by its factor", "and shifted", "usual", "factor unused"],
)
def test_a_processor_s_own_scale_of_pixels_is_read(said: dict[str, Any], tmp_path: Path) -> None:
    """Five ways to say that pixels lie in -1..1."""
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"size": 2, **said}))
    found = preprocessing_of(nn.Identity(), f"hf:{tmp_path}", pretrained=True)
    assert found is not None
    assert found.mean == pytest.approx([0.5] * 3)
    assert found.std == pytest.approx([0.5] * 3)


def test_processors_that_do_more_than_their_file_says_are_known(tmp_path: Path) -> None:
    def of(**said: Any) -> Preprocessing | None:
        content = {"size": {"height": 224, "width": 224}, "image_mean": [0.4] * 3, "image_std": [0.2] * 3, **said}
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(content))
        return preprocessing_of(nn.Identity(), f"hf:{tmp_path}", pretrained=True)

    twice = of(image_processor_type="EfficientNetImageProcessor")
    once = of(image_processor_type="EfficientNetImageProcessor", include_top=False)
    levit = of(image_processor_type="LevitImageProcessor", size={"shortest_edge": 224})
    assert twice is not None
    assert once is not None
    assert levit is not None
    assert (twice.std, once.std) == (pytest.approx([0.04] * 3), (0.2, 0.2, 0.2))
    assert (levit.size, levit.shorter_side) == ((224, 224), 256)
    with pytest.raises(ValueError, match=r"blue, green, red in place of red, green, blue"):
        of(do_flip_channel_order=True)


@pytest.mark.parametrize("make", [lambda m, s: Preprocessing(None, m, s), Normalization], ids=["network", "data"])
def test_numbers_of_pixels_in_0_to_255_are_refused(make: Callable[[Any, Any], object]) -> None:
    make((0.5, 0.5, 0.4), (0.25, 0.25, 0.25))
    with pytest.raises(ValueError, match=r"mean and std are of pixel values in 0\.\.1, got .*by 255"):
        make((125.3, 123.0, 113.9), (63.0, 62.1, 66.7))
