"""Properties that small changes of the code might slip past: pixels before a network, and networks by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fractionate.models import create
from fractionate.models.arguments import called
from fractionate.models.checkpoints import OtherHead, load_checkpoint
from fractionate.models.dense import OnlyMaps, is_dense, main_and_auxiliary, pick_maps
from fractionate.models.exported import Description, Exported
from fractionate.models.libraries import _fits, _three_by_three, _with_head_of
from fractionate.models.plain import small_linear
from fractionate.models.preprocessing import Preprocessing, Shown, _of_transformers, from_plain, shown, shown_of
from fractionate.models.processors import _size
from fractionate.models.token import token_logits

RULE = ((0.5, 0.4, 0.3), (0.2, 0.25, 0.5))


@pytest.mark.parametrize(
    "wrong",
    [
        {"mean": (), "std": ()},
        {"mean": (0.5,), "std": (0.1, 0.1)},
        {"std": (0.1, 0.0, 0.1)},
        {"size": (0, 8)},
        {"size": (8,)},
        {"crop_pct": 0.0},
        {"crop_pct": 1.01},
        {"interpolation": "lanczos"},
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_a_preparation_that_is_none_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"Preprocessing|interpolation"):
        Preprocessing(**{"size": None, "mean": RULE[0], "std": RULE[1], **wrong})


def test_the_smallest_preparation_is_taken() -> None:
    found = Preprocessing((1, 1), (0.5,), (0.25,), crop_pct=0.5)
    assert found.shorter_side == 2
    assert Preprocessing((224, 256), *RULE, crop_pct=0.875).shorter_side == 256
    assert Preprocessing(None, *RULE).shorter_side is None
    assert found(torch.zeros(1, 1, 1, 1)).item() == -2.0


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "pixels", [torch.zeros(1, 3, 4, 4, dtype=torch.uint8), torch.zeros(3, 4, 4), torch.zeros(1, 1, 4, 4)]
)
def test_pixels_of_another_kind_are_refused(pixels: Tensor) -> None:
    with pytest.raises(ValueError, match=r"floating-point \[n, 3, h, w\]"):
        Preprocessing(None, *RULE)(pixels)


def test_cubic_pixels_stay_pixels() -> None:
    hard = torch.zeros(1, 3, 8, 8)
    hard[..., :4] = 1.0
    found = Preprocessing((5, 5), (0.0,) * 3, (1.0,) * 3, "bicubic")(hard)
    assert (float(found.min()), float(found.max())) == (0.0, 1.0)


def test_images_that_are_shown_another_way_are_the_same_pixels() -> None:
    x = torch.rand(2, 3, 6, 6)
    mean, std = (torch.tensor(v)[:, None, None] for v in RULE)
    own = Preprocessing(None, (0.1, 0.2, 0.3), (0.5, 0.5, 0.5))
    torch.testing.assert_close(Shown(own, *RULE).pixels((x - mean) / std), own(x))
    same = Preprocessing(None, *RULE)
    assert Shown(same, *RULE).pixels(x) is x
    assert Shown(Preprocessing((6, 6), *RULE), *RULE).pixels(x) is x
    assert Shown(Preprocessing((3, 3), *RULE), *RULE).pixels(x).shape == (2, 3, 3, 3)
    net = shown(nn.Flatten(), Shown(own, *RULE))
    assert shown_of(net) == Shown(own, *RULE)
    assert shown_of(nn.Flatten()) is None


SAID = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.5, 0.5]}


@pytest.mark.parametrize(
    ("said", "size", "more"),
    [
        ({"size": 8}, (8, 8), {}),
        ({"size": {"height": 6, "width": 9}}, (6, 9), {}),
        ({"size": {"shortest_edge": 8}, "crop_size": {"height": 6, "width": 6}}, (6, 6), {"crop_pct": 0.75}),
        ({"size": 8, "crop_size": 6, "do_center_crop": False}, (8, 8), {}),
        ({"size": 8, "crop_pct": 0.5}, (8, 8), {"crop_pct": 0.5}),
        ({"size": 8, "resample": 3}, (8, 8), {"interpolation": "bicubic"}),
        ({"size": 8, "resample": 0}, (8, 8), {"interpolation": "nearest"}),
        ({"size": 8, "do_normalize": False}, (8, 8), {"mean": (0.0,) * 3, "std": (1.0,) * 3}),
    ],
)
def test_a_processor_s_file_is_read(said: dict[str, Any], size: Any, more: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(SAID | said))
    expected: dict[str, Any] = {"mean": (0.1, 0.2, 0.3), "std": (0.5, 0.5, 0.5), **more}
    assert _of_transformers(nn.Identity(), str(tmp_path)) == Preprocessing(size, **expected)


def test_plain_data_that_are_no_preparation_are_refused() -> None:
    assert from_plain({"size": [8, 8], "mean": [0.5], "std": [0.5]}).size == (8, 8)
    for said in ({"size": [8, 8]}, {"size": None, "mean": [0.5], "std": [0.5], "x": 1}):
        with pytest.raises(ValueError, match="no preprocessing's values"):
            from_plain(said)
    assert _size(None) is None


# -- networks ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "sides", "inputs"),
    [
        ("convnet_4_8", [8, 4], 32),
        ("convnet_8_16", [8, 4], 64),
        ("convnet_16_32_64", [16, 8, 4], 256),
        ("convnet_gap_8_16", [8, 8], 16),
        ("convnet_gap_16_32_64", [16, 8, 8], 64),
    ],
)
def test_a_convnet_s_maps_have_their_sizes(name: str, sides: list[int], inputs: int) -> None:
    net: Any = create(name, num_classes=3)
    assert [x.shape[-1] for x in net.features(torch.zeros(1, 1, 16, 16))] == sides
    assert net.fc.in_features == inputs


def test_a_classifier_that_starts_near_zero_has_its_deviation() -> None:
    torch.manual_seed(0)
    layer = small_linear(nn.Linear(400, 100))
    assert float(layer.weight.detach().std()) == pytest.approx(0.01, rel=0.03)
    assert float(layer.bias.detach().abs().max()) == 0.0
    new = _three_by_three(nn.Conv2d(8, 64, 7, stride=2, bias=True))
    assert (new.kernel_size, new.stride, new.padding) == ((3, 3), (1, 1), (1, 1))
    assert float(new.weight.detach().std()) == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.05)
    assert new.bias is not None
    assert float(new.bias.detach().abs().max()) == 0.0
    old = nn.Conv2d(3, 4, 3, stride=2)
    assert _three_by_three(old) is old
    assert old.stride == (1, 1)


def test_a_library_s_head_for_other_classes_is_new_only_where_that_is_wanted() -> None:
    assert _fits("x", None, 5, False)
    assert _fits("x", 5, 5, False)
    assert not _fits("x", 7, 5, True)
    with pytest.raises(OtherHead, match="do not have 5 classes but 7"):
        _fits("x", 7, 5, False)
    net, fresh = (nn.Sequential(nn.Linear(4, 4), nn.Linear(4, n)) for n in (7, 5))
    kept = net[0].weight
    found = _with_head_of(net, fresh)
    assert found[1] is fresh[1]
    assert found[0].weight is kept


@pytest.mark.parametrize(
    "text", ["net(3)", "net(a=f())", "net(a=1", "net(a=[1])", "net(**x)", "net(a={})", "net(a=(1, 'x'))", "net(a=1)+1"]
)
def test_arguments_behind_a_name_are_plain_values(text: str) -> None:
    with pytest.raises(ValueError, match="write NAME"):
        called(text, "model")
    assert called("net(a=-1, b=(1, 2), c=None, d='x', e=True)", "model")[1] == {
        "a": -1,
        "b": (1, 2),
        "c": None,
        "d": "x",
        "e": True,
    }


class Maps(nn.Module):
    """Two heads over a map, under the names of torchvision, enlarged twice."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.classifier, self.aux_classifier = nn.Identity(), nn.Conv2d(1, 3, 1), nn.Conv2d(1, 3, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        twice = nn.Upsample(scale_factor=2)
        return {"out": twice(self.classifier(x)), "aux": twice(self.aux_classifier(x))}


def test_a_map_is_taken_where_it_is_clear_which_and_before_it_is_enlarged_where_that_is_wanted() -> None:
    net, x = Maps(), torch.rand(2, 1, 4, 4)
    main, aux = main_and_auxiliary(net, x)
    assert aux is not None
    assert (main.shape, aux.shape) == ((2, 3, 8, 8), (2, 3, 8, 8))
    assert not torch.equal(main, aux)
    main, aux = main_and_auxiliary(net, x, head=True)
    torch.testing.assert_close(main, net.classifier(x))
    torch.testing.assert_close(aux, net.aux_classifier(x))
    assert OnlyMaps(net)(x).shape == (2, 3, 8, 8)
    assert not net.classifier._forward_hooks
    for output, why in (((main, main), "cannot be told apart"), (main.long(), "are not found"), ((), "are not found")):
        with pytest.raises(ValueError, match=why):
            pick_maps(output)
    assert [is_dense(torch.zeros(1, 3, *side)) for side in ((1, 1), (1, 2), (2, 1))] == [False, True, True]
    with pytest.raises(ValueError, match="logits of 1 images when asked about 2"):
        main_and_auxiliary(First(), x)


class First(nn.Module):
    """It answers about the first image alone."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:1]


class Heads(nn.Module):
    """What is given comes back."""

    def __init__(self, said: Any) -> None:
        super().__init__()
        self.said = said

    def forward(self, x: Tensor) -> Any:
        return self.said


def test_two_heads_are_two_tensors_of_one_shape() -> None:
    x, a, b = torch.zeros(2, 1, 2, 2), torch.ones(2, 3), torch.zeros(2, 3)
    for said in ((a, b), {"cls_logits": a, "distillation_logits": b, "loss": a}):
        first, second = token_logits(Heads(said), x)
        assert (first is a, second is b) == (True, True)
    mean, same = token_logits(Heads(a).eval(), x)
    assert mean is same
    for said in ((a, b[:, :2]), (a, b, b), a):
        with pytest.raises(ValueError, match="distils through a token"):
            token_logits(Heads(said), x)


@pytest.mark.usefixtures("unchecked")
def test_raw_images_are_normalised_as_the_description_says() -> None:
    how = Description("x", num_classes=2, input_size=(3, 4, 4), mean=RULE[0], std=RULE[1])
    x = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)
    expected = Preprocessing(None, *RULE)(x / 255)
    torch.testing.assert_close(Exported(nn.Identity(), how).normalize(x), expected)
    for wrong in (x.float(), x[0], x[:, :1]):
        with pytest.raises(ValueError, match=r"must be uint8 \[n, 3, h, w\]"):
            Exported(nn.Identity(), how).normalize(wrong)
    for more in ({"input_size": (3, 4)}, {"mean": (0.5,)}, {"std": (0.5,)}, {"classes": ("a",)}):
        given: dict[str, Any] = {"num_classes": 2, "input_size": (3, 4, 4), "mean": RULE[0], "std": RULE[1], **more}
        with pytest.raises(ValueError, match="Description"):
            Description("x", **given)


def names(*parts: tuple[str, str]) -> list[str | None]:
    plain: dict[str, Any] = {"num_classes": 2, "input_size": (1, 4, 4), "mean": (0.5,), "std": (0.5,)}
    return [Description(name, stem=stem, **plain).timm_name for name, stem in parts]  # type: ignore[arg-type]


def test_timm_reads_what_it_can_build_alone() -> None:
    told = names(
        ("timm:resnet18.a1", "default"),
        ("timm:resnet18", "small"),
        ("timm:vit(a=1)", "default"),
        ("resnet8", "default"),
    )
    assert told == ["resnet18", None, None, None]


# -- weights ---------------------------------------------------------------------------------------


def loads(given: dict[str, Any], tmp_path: Path, net: nn.Module | None = None, **more: Any) -> nn.Module:
    net = net or nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))
    torch.save(given, tmp_path / "x.pth")
    load_checkpoint(net, tmp_path / "x.pth", **more)
    return net


def weights(classes: int = 4) -> dict[str, Tensor]:
    return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, classes)).state_dict()


def test_the_student_comes_before_other_networks_and_weights_before_their_average(tmp_path: Path) -> None:
    one, other = weights(), weights()
    for given in (
        {"ema": other, "state_dict": one},
        {"model": other, "student": one},
        {"model_ema": {"module": other}, "model": {"module": one}},
        {f"student.{k}": v for k, v in one.items()} | {f"teacher.{k}": v for k, v in other.items()},
        {f"net.{k}": v for k, v in one.items()} | {"net_loss.weight": other["0.weight"]},
    ):
        found = loads(given, tmp_path).state_dict()
        assert all(torch.equal(found[k], one[k]) for k in one)


def test_a_network_that_is_there_twice_is_no_choice_of_ours(tmp_path: Path) -> None:
    one = weights()
    twice = {f"student.a.{k}": v for k, v in one.items()} | {f"student.b.{k}": v for k, v in one.items()}
    with pytest.raises(ValueError, match="holds the network several times"):
        loads(twice, tmp_path)


def test_another_number_of_classes_is_told_from_other_misfits(tmp_path: Path) -> None:
    with pytest.raises(OtherHead):
        loads(weights(7), tmp_path)
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))
    head = net[1].weight.detach().clone()
    theirs = weights(7)
    loads(theirs, tmp_path, net, new_head=True)
    assert torch.equal(net[0].weight, theirs["0.weight"])
    assert torch.equal(net[1].weight, head)
    for wrong in (
        weights(7) | {"1.weight": torch.zeros(6, 3)},
        weights(7) | {"1.weight": torch.zeros(7, 5)},
        weights(7) | {"0.weight": torch.zeros(5, 2), "0.bias": torch.zeros(5)},
        {k: v for k, v in weights(7).items() if k != "0.bias"},
        weights(7) | {"2.bias": torch.zeros(1)},
    ):
        with pytest.raises(ValueError, match=r"missing|unexpected|shape") as said:
            loads(wrong, tmp_path, new_head=True)
        assert not isinstance(said.value, OtherHead)
