"""What published files say wrongly, or twice: recipes keep the values that ran and say so; those meant are near."""

from __future__ import annotations

import csv

import pytest

from fractionate.papers.recipes import paper, papers
from fractionate.train.optimizer import factor
from tests.papers.cells import TABLE, Cells, table

pytestmark = pytest.mark.filterwarnings("ignore:deepkd")
NUMBERS = TABLE.with_name("published.csv")


def published() -> list[Cells]:
    with NUMBERS.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_student_has_the_name_of_the_network_that_runs_whatever_its_file_calls_it() -> None:
    called_otherwise = [c for c in table() if "config calls the student MobileNetV2" in c["remark"]]
    assert len(called_otherwise) > 5
    for cells in called_otherwise:
        recipe = paper(cells["id"])
        if not recipe.obstacle and not recipe.needs:
            assert recipe.run().student.name == "mobilenet_v1", recipe.id
        assert any("config calls the student MobileNetV2" in note for note in recipe.notes)


def test_files_of_deepkd_that_abort_in_the_published_code_run_here() -> None:
    broken = [
        r for r in papers().values() if r.row.source == "haiduo/DeepKD" and r.row.status != "ok" and not r.derived
    ]
    broken = [r for r in broken if r.row.status != "reconstructed"]
    assert len(broken) >= 16
    for recipe in broken:
        assert recipe.status.startswith("published file cannot run"), recipe.id
        assert not recipe.obstacle, f"{recipe.id}: {recipe.obstacle}"
        assert any(recipe.row.status in note for note in recipe.notes)


@pytest.mark.parametrize(
    ("id", "said", "ran", "meant"),
    [
        (
            "imagenet/dkd+dot/resnet34__resnet18/deepkd",
            "no DKD block in the file",
            {"temperature": 4, "beta": 8, "warmup": 20},
            {"temperature": 1},
        ),
        (
            "imagenet/dist/resnet34__resnet18/gdkd",
            "config writes T=1 under the wrong section",
            {"temperature": 4},
            {"temperature": 1},
        ),
        (
            "imagenet/dkdmod/resnet50__mobilenet_v1/gdkd/strategy=target",
            "intended alpha=0.5 beta=2 T=1 warm-up=1",
            {"alpha": 1, "beta": 8, "temperature": 4, "warmup": 20},
            {"alpha": 0.5, "beta": 2, "temperature": 1, "warmup": 1},
        ),
    ],
)
def test_what_ran_is_the_recipe_and_what_was_meant_is_a_change_of_it(
    id: str, said: str, ran: dict[str, float], meant: dict[str, float]
) -> None:
    recipe = paper(id)
    assert any(said in note for note in recipe.notes)
    assert ran.items() <= recipe.run().method.args.items()
    changed = recipe.run([f"method.args.{name}={value}" for name, value in meant.items()])
    assert meant.items() <= changed.method.args.items()
    assert changed.optimizer == recipe.run().optimizer


def test_gdkd_on_imagenet_has_the_rate_of_its_files() -> None:
    rates = {c["lr"] for c in table() if c["dataset"] == "imagenet" and c["source"] == "ZaberKo/GDKD"}
    assert rates == {"0.2"}


def test_the_weights_of_gdkd_are_those_of_its_present_files() -> None:
    rows = [c for c in table() if (c["source"], c["method"], c["dataset"]) == ("ZaberKo/GDKD", "gdkd", "cifar100")]
    assert len(rows) > 10
    assert {c["w1"] for c in rows} == {"1", "2"}  # 2 and 6 before 2025-10-20, and a default of 8 before 2024-02


def test_the_last_pair_of_the_header_is_a_shufflenet_v2() -> None:
    remarked = [c for c in published() if "README column header says MobileNet-V2" in c["remark"]]
    assert remarked
    assert {c["student"] for c in remarked} == {"shufflenet_v2"}


def test_printed_and_logged_values_of_lskd_are_both_kept() -> None:
    recipe = paper("cifar100/kd+ls/resnet56_cos__t2t_vit_7/lskd/transformer-student")
    assert {"78.43", "78.10"} <= {number.value for number in recipe.numbers}
    assert any("log name says T=3, weight 6" in note for note in recipe.notes)


def test_a_script_whose_temperature_and_weight_look_swapped_is_kept_and_said() -> None:
    recipe = paper("imagenet/ctkd+ls/resnet34__resnet18/lskd/global-temperature")
    assert any("look swapped" in note for note in recipe.notes)
    standardised = next(w for w in recipe.run().method.wrappers if w.name == "lskd")
    assert (standardised.args["temperature"], standardised.args["weight"]) == (9, 2)


def test_single_runs_of_dgkd_are_no_result_to_reach() -> None:
    assert not [c for c in published() if "dgkd" in c["method"]]
    assert not [r for r in papers().values() if r.row.method == "dgkd" and r.row.dataset == "imagenet"]


def test_mlkd_is_kept_with_480_epochs_and_with_240() -> None:
    cells = [c for c in table() if c["method"].startswith("mlkd") and c["dataset"] == "cifar100"]
    epochs = {source: {c["epochs"] for c in cells if c["source"] == source} for source in {c["source"] for c in cells}}
    assert epochs["ZaberKo/GDKD"] == {"240"}  # copied after the change
    assert {"480"} <= epochs["sunshangquan/logit-standardization-KD"] <= {"480", "960"}
    assert {"480"} <= epochs["haiduo/DeepKD"] <= {"480", "960"}


def test_rows_of_deepkd_s_paper_that_keep_the_base_s_beta_say_that_nobody_published_them() -> None:
    kept = [
        r for r in papers().values()
        if r.row.variant == "paper" and r.row.status == "reconstructed" and r.row.method.endswith("+deepkd")
    ]  # fmt: skip
    assert len(kept) > 50
    for recipe in kept:
        assert any("Nobody published this combination" in note for note in recipe.notes), recipe.id


def test_the_transformers_of_vit_gdkd_follow_torch_s_cosine() -> None:
    recipe = paper("imagenet/gdkd/resnet50__swin_t/vit-gdkd/transformer-student")
    rate = recipe.run(["ema=0.9999"]).learning_rate
    assert (rate.cosine_end, rate.warmup_epochs, rate.warmup_start) == ("after", 20, 0.01)
    assert [factor(rate, epoch, 300) for epoch in (1, 21)] == pytest.approx([0.01, 1.0])
    assert factor(rate, 300, 300) > rate.minimum  # which would come after the last epoch
    usual = paper("cifar100/crld+deepkd/resnet110__resnet20/deepkd/published-code").run().learning_rate
    assert factor(usual, 240, 240) == pytest.approx(usual.minimum)
