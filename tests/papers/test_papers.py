"""The papers' recipes as runs: what can be trained, what its source leaves open, and what says why it cannot."""

import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest
import torch

import fractionate as fr
from fractionate.commands.recipes import recipe_run
from fractionate.config.files import differences, from_yaml, to_yaml
from fractionate.config.method import MethodSpec
from fractionate.config.run import Network
from fractionate.papers.recipes import SINGLE_TERM, PaperRecipe, paper, papers, search
from fractionate.recipes.teachers import alone_top1, teacher_run
from tests.papers.cells import complete, table

# Some methods warn when they are built: kd under DeepKD's published code, dgkd beyond its proven range.
pytestmark = pytest.mark.filterwarnings("ignore:deepkd", "ignore:dgkd")

CIFAR = [cells for cells in table() if cells["dataset"] == "cifar100"]
METHODS = sorted({cells["method"] for cells in CIFAR})
DKD = "cifar100/dkd/resnet32x4__resnet8x4/mdistiller"


@pytest.mark.parametrize(
    ("id", "needs", "given"),
    [
        ("cifar100/dgkd/any/dgkd/published-code-head-beta=8", "teacher, student", ["teacher=vgg13", "student=vgg8"]),
        ("cifar100/dkd+deepkd/resnet110__resnet20/paper/paper", "method.args.beta", ["method.args.beta=2"]),
        ("cifar100/sdd_nkd/resnet32x4__resnet8x4/sdd", "method", ["method='nkd+sdd(scales=[1,2])'"]),
    ],
)
def test_what_a_source_leaves_open_must_be_given(id: str, needs: str, given: list[str]) -> None:
    with pytest.raises(ValueError, match=f"leaves {needs} open; give for example {needs.split(',')[0]}="):
        recipe_run(id)
    run = recipe_run(id, given)
    assert run.optimizer.lr == float(next(c["lr"] for c in CIFAR if c["id"] == id))
    assert differences(run, recipe_run(id, [*given, "epochs=3"])) == ["epochs"]


def test_a_detail_of_an_open_field_does_not_decide_it() -> None:
    id = "cifar100/dgkd/any/dgkd/published-code-head-beta=8"
    with pytest.raises(ValueError, match="leaves teacher open"):
        recipe_run(id, ["student=vgg8", "teacher.checkpoint=weights.pth"])
    assert recipe_run(id, ["student=vgg8", "teacher.name=vgg13", "teacher.checkpoint=weights.pth"]).teacher == Network(
        "vgg13", "weights.pth"
    )


def test_the_example_of_an_open_recipe_is_a_command_that_works() -> None:
    for recipe in {r.method: r for r in papers().values() if r.needs}.values():
        examples = [recipe.example(need).replace("'", "") for need in recipe.needs]
        assert recipe.run(examples).method.build()


def test_a_recipe_can_be_changed_like_any_run() -> None:
    changed = recipe_run(DKD, ["epochs=2", "method.args.beta=1", "student=vgg8"])
    assert differences(recipe_run(DKD), changed) == ["student.name", "method.args.beta", "epochs"]


@pytest.mark.parametrize("method", METHODS)
def test_runs_survive_yaml(method: str) -> None:
    run = next((r.run() for r in papers().values() if r.method == method and r.runnable), None)
    if run is None:
        assert method.startswith(("sdd_", "dgkd", "topkd", "wttm+crd"))
    else:
        assert from_yaml(to_yaml(run)) == run


def test_a_reconstruction_says_so_and_a_broken_file_says_why() -> None:
    for cells in CIFAR:
        recipe = paper(cells["id"])
        notes = " ".join(recipe.notes)
        assert (
            (cells["status"] == "reconstructed") == ("reconstruction" in recipe.status) == ("reconstruction: " in notes)
        )
        if cells["status"] not in ("ok", "reconstructed"):
            assert f"the published file cannot run ({cells['status']})" in notes


def test_the_clean_ablation_changes_the_streams_and_nothing_else() -> None:
    found = [r for r in papers().values() if r.derived and r.runnable]
    assert len(found) > 300
    for recipe in {r.method: r for r in found}.values():
        base, ours = PaperRecipe(recipe.row).run(), recipe.run()
        assert replace(ours, method=base.method) == base
        assert replace(ours.method, wrappers=ours.method.wrappers[:-1]) == base.method
    one = paper("cifar100/kd/resnet32x4__resnet8x4/mdistiller/fractionate").run().method.build()
    plain = paper("cifar100/kd/resnet32x4__resnet8x4/mdistiller").run().method.build()
    lg = fr.Logits(torch.randn(4, 10).double(), torch.randn(4, 10).double(), torch.arange(4))
    assert dict(one.momenta(0.9)) == pytest.approx({"task+nontarget": 0.975, "target": 0.825})
    assert float(one.loss(lg)) == pytest.approx(float(plain.loss(lg)))


@pytest.mark.parametrize("method", [m for m in METHODS if "+d" not in m and not m.startswith("sdd_")])
def test_every_method_that_deepkd_can_split_has_its_clean_ablation(method: str) -> None:
    found = [r for r in papers().values() if r.row.dataset == "cifar100"]
    bases = [r for r in found if r.method == method and not r.derived and not r.obstacle]
    if not bases:
        assert method == "wttm+crd"
        return
    given = [[r.example(need) for need in r.needs] for r in bases]
    try:
        splits = bool(fr.methods.deepkd(bases[0].run(given[0]).method.build()))
    except ValueError:
        splits = False
    assert [f"{r.id}/fractionate" in papers() for r in bases] == [splits] * len(bases)
    assert (method in SINGLE_TERM) != splits


def test_the_three_variants_of_deepkd_are_there() -> None:
    pair = [r for r in search(["cifar100/kd", "resnet32x4__resnet8x4/"]) if r.method == "kd+deepkd"]
    assert Counter(r.variant for r in pair) == {"paper": 1, "published-code": 1, "fractionate": 3}


def test_an_unknown_id_is_answered_with_the_nearest() -> None:
    with pytest.raises(
        ValueError, match=r"unknown recipe .*did you mean cifar100/dkd/resnet32x4__resnet8x4/mdistiller"
    ):
        recipe_run("cifar100/dkd/resnet32x4_resnet8x4/mdistiler")


def test_teachers_of_one_network_differ_in_augmentation_only() -> None:
    own = {
        (c["student"], "auto" in c["augmentation"]): paper(c["id"]).run()
        for c in CIFAR
        if complete(c) and c["method"] == "ce"
    }
    both = [name for name, strong in own if strong and (name, False) in own]
    assert len(both) >= 5
    for name in both:
        assert differences(own[name, True], own[name, False]) == ["data.augment"]
        assert teacher_run(name) == own[name, False]
        assert teacher_run(name, strong=True) == own[name, True]


def test_every_teacher_has_a_run_as_its_source_trained_it() -> None:
    found = [r for r in papers().values() if r.runnable and r.row.teacher and r.row.dataset == "cifar100"]
    recipes = {(r.row.teacher, r.row.teacher_weights): r for r in found}.values()
    for recipe in recipes:
        run = teacher_run(recipe)
        assert (run.student, run.teacher, run.method) == (recipe.run().teacher, None, MethodSpec("ce"))
        assert (run.data.augment == "autoaugment+cutout") == recipe.row.teacher_weights.startswith("aug")
    assert {alone_top1(r.row.teacher) for r in recipes} > {79.42, 75.61, 74.64}
    with pytest.raises(ValueError, match="unknown network with a published recipe 'vgg12': did you mean 'vgg1"):
        teacher_run("vgg12")
    assert teacher_run("resnet56_cos").student == Network("resnet56")


def test_the_table_is_read_when_it_is_needed_and_quickly() -> None:
    code = (
        "import time\n"
        "from fractionate.papers import recipes as papers\n"
        "from fractionate.papers.rows import rows\n"
        "assert rows.cache_info().currsize == 0\n"
        "times = []\n"
        "for _ in range(3):\n"
        "    rows.cache_clear(), papers.papers.cache_clear()\n"
        "    start = time.process_time()\n"
        "    papers.papers()\n"
        "    times.append(time.process_time() - start)\n"
        "assert min(times) < 0.2, times\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
