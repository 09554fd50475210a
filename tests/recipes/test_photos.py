"""Complete runs on photos: the published settings, and those that suit a transformer."""

from __future__ import annotations

import pytest

from fractionate.config.files import from_yaml, to_yaml
from fractionate.config.method import MethodSpec
from fractionate.config.run import Network
from fractionate.papers.recipes import paper
from fractionate.recipes import RECIPES, find, photos
from fractionate.train.optimizer import grouped

TEACHER = Network("torchvision:resnet34", pretrained=True)


@pytest.mark.parametrize("method", ["ce", "kd", "dkd", "gdkd", "crld", "dkd+deepkd"])
@pytest.mark.parametrize("recipe", ["imagenet", "vit"])
def test_a_run_of_every_kind_of_method_can_be_written_down(recipe: str, method: str) -> None:
    run = RECIPES[recipe].student(MethodSpec.parse(method), TEACHER, root="photos")
    assert from_yaml(to_yaml(run)) == run
    assert run.data.strong == ("randaugment" if method == "crld" else "none")


def test_the_resnets_have_the_settings_of_the_published_rows() -> None:
    published = paper("imagenet/kd/resnet34__resnet18/mdistiller").run()
    ours = photos.student(published.method, TEACHER)
    for part in ("student", "teacher", "optimizer", "learning_rate", "epochs", "data"):
        assert getattr(ours, part) == getattr(published, part), part


def test_the_teacher_of_a_transformer_is_trained_as_resnets_are() -> None:
    assert RECIPES["vit"].teacher().optimizer == RECIPES["imagenet"].teacher().optimizer
    assert RECIPES["vit"].teacher().student.name == "torchvision:resnet50"


def test_a_transformer_s_norms_biases_positions_and_tokens_do_not_decay() -> None:
    timm = pytest.importorskip("timm")
    run = photos.vit(MethodSpec("kd"), TEACHER)
    net = timm.create_model(run.student.name.removeprefix("timm:"), num_classes=3)
    groups = grouped(run.optimizer, net)
    spared = {id(p) for group in groups if group.get("weight_decay") == 0 for p in group["params"]}
    for name, p in net.named_parameters():
        assert (id(p) in spared) == (p.ndim <= 1 or name in ("pos_embed", "cls_token")), name


@pytest.mark.parametrize("epochs", [1, 2, 10, 300])
def test_any_length_has_a_schedule(epochs: int) -> None:
    assert photos.vit(MethodSpec("kd"), TEACHER, epochs=epochs).learning_rate.warmup_epochs < max(2, epochs)
    assert max(photos.student(MethodSpec("kd"), TEACHER, epochs=epochs).learning_rate.milestones) <= epochs


def test_a_set_without_a_recipe_is_shown_the_one_to_take() -> None:
    with pytest.raises(ValueError, match=r"imagenet data\.name=cub200"):
        find("cub200")
    with pytest.raises(ValueError, match=r"cifar100 data\.name=mnist"):
        find("mnist")
