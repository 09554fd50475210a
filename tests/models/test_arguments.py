"""Networks of timm with arguments in their name: built as timm builds them, and clear words about wrong ones."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fractionate import models
from fractionate.config.files import from_yaml, to_yaml
from fractionate.config.method import MethodSpec
from fractionate.config.run import Network, Run
from fractionate.models.arguments import called
from fractionate.models.exported import Description
from fractionate.recipes.tiny_imagenet import VIT

timm = pytest.importorskip("timm")
SMALL = "timm:vit_tiny_patch16_224(img_size=16, patch_size=8, depth=2, embed_dim=12, num_heads=3)"


def test_the_network_is_the_one_that_timm_builds_from_the_same_arguments() -> None:
    torch.manual_seed(0)
    ours = models.create(SMALL, num_classes=5)
    torch.manual_seed(0)
    sizes = {"img_size": 16, "patch_size": 8, "depth": 2, "embed_dim": 12, "num_heads": 3}
    theirs = timm.create_model("vit_tiny_patch16_224", num_classes=5, **sizes)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    assert all(torch.equal(x, y) for x, y in zip(ours.parameters(), theirs.parameters(), strict=True))
    assert ours(torch.zeros(2, 3, 16, 16)).shape == (2, 5)


def test_the_transformer_of_the_study_has_its_depth_width_and_patches() -> None:
    net = models.create(VIT, num_classes=50)
    assert (len(net.blocks), net.embed_dim, net.patch_embed.patch_size) == (6, 96, (8, 8))
    assert net(torch.zeros(1, 3, 64, 64)).shape == (1, 50)


def test_such_a_name_is_kept_in_a_config_and_is_not_one_that_timm_alone_knows() -> None:
    run = Run(student=Network(SMALL), method=MethodSpec("ce"))
    assert from_yaml(to_yaml(run)) == run
    plain = Description("timm:resnet18", 10, (3, 8, 8), mean=(0.5,) * 3, std=(0.25,) * 3)
    assert plain.timm_name == "resnet18"
    assert replace(plain, name=SMALL).timm_name is None


@pytest.mark.parametrize(
    "text", ["n(", "n(1)", "n(a=)", "n(a=b)", "n(a=[1])", "n(a=f(1))", "n(**{'a': 1})", "n(a=1) or 1", "n(a=1)(b=2)"]
)
def test_anything_but_plain_values_by_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"write NAME\(argument=value, \.\.\.\)"):
        called(text, "model")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("timm:vit_tiny_patch16_224(deepth=3)", r"cannot be built with deepth=3: TypeError.*deepth"),
        ("timm:resnet18(num_classes=3)", "given beside the name, not in it"),
        ("timm:no_such(img_size=64)", "unknown timm model 'no_such'"),
    ],
)
def test_what_timm_does_not_take_is_named_in_one_sentence(name: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        models.create(name, num_classes=5)
