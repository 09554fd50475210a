"""Words on the command line, and what is said before anything heavy is loaded: properties of pure functions."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fractionate._terminal import in_bytes
from fractionate.cli import _fields_together, _parse, _sentence, _takers
from fractionate.commands import COMMANDS, command
from fractionate.commands.handover import Evaluate
from fractionate.commands.look import Named, chosen_run
from fractionate.commands.options import ask_for_recipe, at_least, folder_of, names_and_changes
from fractionate.commands.own_code import named_in
from fractionate.commands.photos import _by_number, _kept, _loaded, lengths, settled
from fractionate.commands.recipes import print_recipes, recipe_run, show_recipe
from fractionate.commands.study import Study
from fractionate.commands.train import OF_A_CHOICE, Train, _images_at
from fractionate.commands.tune import Tune
from fractionate.config.data import Data
from fractionate.config.files import to_yaml
from fractionate.config.method import MethodSpec
from fractionate.config.run import Network, Run
from fractionate.papers.recipes import papers
from fractionate.pictures.plan import Networks, Plan
from fractionate.pictures.survey import Survey
from fractionate.probe.images import as_trained
from tests.dense import trees as masks
from tests.detection import trees as boxes


def quiet() -> Console:
    return Console(file=StringIO(), width=300)


def test_fields_are_told_from_names_unless_a_folder_has_the_name(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dkd=2").mkdir()
    words = ["digits", "a.b=1", "dkd=2", "x=", "=y", "a-b=1"]
    assert names_and_changes(words) == (["digits", "dkd=2", "=y", "a-b=1"], ["a.b=1", "x="])
    assert named_in(["student=a:b", "teacher.name= c:d ", "teacher.checkpoint=e", "epochs=3"]) == ["a:b", "c:d"]
    assert [folder_of("digits", v).as_posix() for v in (False, True)] == ["runs/digits", "runs/digits-validation"]


def test_a_number_that_is_too_small_is_refused_by_its_option_and_the_least_is_taken() -> None:
    at_least(1, seeds=1, workers=None, teacher_epochs=5)
    with pytest.raises(ValueError, match="--teacher-epochs must be at least 2, got 1"):
        at_least(2, seeds=2, teacher_epochs=1)


def test_a_command_without_a_recipe_is_told_what_to_write() -> None:
    ask_for_recipe("train", ["digits"], None, "digits")
    with pytest.raises(ValueError, match=r"\(fractionate tune digits --budget 20m\); got none"):
        ask_for_recipe("tune", ["epochs=3"], None, "digits --budget 20m")


@pytest.mark.parametrize(
    ("line", "together"),
    [
        ("train --resume runs/kd x=1", "train runs/kd x=1 --resume"),
        ("train digits --seeds -3 x=1", "train digits x=1 --seeds -3"),
        ("train --seeds=3 digits", "train digits --seeds=3"),
        ("compare --methods kd dkd --seeds 2 digits", "compare digits --methods kd dkd --seeds 2"),
        ("compare --methods a=1 b=2 c", "compare b=2 --methods a=1 c"),
        ("compare --together -2 digits", "compare digits --together -2"),
        ("compare --together x digits", "compare x digits --together"),
        ("train --teacher_epochs 3 digits", "train digits --teacher_epochs 3"),
    ],
)
def test_words_of_an_option_stay_with_it_and_all_others_come_first(line: str, together: str) -> None:
    words = line.split()
    assert _fields_together(words, *_takers(command(words[0]))) == together.split()


def test_the_options_of_a_command_are_known_by_what_they_take() -> None:
    flags, several, perhaps = _takers(command("compare"))
    assert {"--overwrite", "--no-overwrite", "-h", "--help"} <= flags
    assert "--methods" in several
    assert perhaps == {"--together"}
    assert "--seeds" not in flags | several | perhaps
    assert all(_takers(command(name)) for name in COMMANDS)


def test_a_framed_complaint_becomes_a_line() -> None:
    box = (
        "╭─ Parsing error ───╮\n│ Unrecognized      │\n│ options: --sede   │\n│ ───────── │\n"
        "│ Perhaps you meant: │\n│     --seed  INT │\n│ ───── │\n│ For help, see --help │\n╰───╯"
    )
    assert _sentence(box) == "Unrecognized options: --sede; did you mean --seed?"
    assert _sentence("╭─ x ─╮\n│ Bad word │\n╰─╯") == "Bad word"


# -- train, study, evaluate ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"seeds": 0}, "--seeds must be at least 1"),
        ({"workers": 0}, "--workers must be at least 1"),
        ({"epochs": 0}, "--epochs must be at least 1"),
        ({"overwrite": True, "resume": True}, "exclude each other"),
        ({"teacher_at_least": 100.5}, r"in percent, 0\.\.100"),
        ({"teacher_at_least": -1.0}, r"in percent, 0\.\.100"),
    ],
)
def test_numbers_and_flags_of_train_are_looked_at_first(given: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Train(("digits",), **given)._options(("fractionate",))


def test_what_train_is_told_holds_for_its_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RESTART_COUNT", raising=False)
    for overwrite, resume in ((True, False), (False, True), (False, False)):
        found = Train(overwrite=overwrite, resume=resume, teacher_at_least=100.0)._options(("a",))
        assert (found.overwrite, found.resume, found.command, found.deadline) == (overwrite, resume, ("a",), None)
        assert found.teacher_at_least == 100.0
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    found = Train(overwrite=True)._options(())
    assert (found.overwrite, found.resume) == (False, True)
    choice = Train(method="deepkd", over="gdkd", validation=True, data=Path("d"))._choice("digits", ["a=1"])
    assert (choice.method, choice.validation, choice.root, choice.changes) == ("gdkd+deepkd", True, "d", ["a=1"])
    assert Train()._choice("digits", []).method == "kd"
    assert Train(method="dkd")._choice("digits", []).method == "dkd"


def test_sets_with_masks_or_boxes_are_measured_by_name_or_by_the_layout_of_their_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boxed, dense = boxes.coco(tmp_path / "boxed", 3, 2), masks.camvid(tmp_path / "camvid", 2, 1)
    (tmp_path / "classes" / "cat").mkdir(parents=True)

    def read(data: object, **options: Any) -> tuple[str, str | None, int | None]:
        found = Evaluate(student="x", checkpoint=Path("x"), data=str(data), **options)._images(quiet())
        return found.name, found.root, found.size

    assert read("coco", root=boxed, size=96) == ("coco", str(boxed), 96)
    assert read(boxed) == ("coco", str(boxed), None)
    assert read(dense) == ("camvid", str(dense), None)
    assert read(masks.zipped(dense, tmp_path / "camvid.zip")) == ("camvid", str(tmp_path / "camvid.zip"), None)
    assert read(tmp_path / "classes", size=32) == ("folder", str(tmp_path / "classes"), 32)
    monkeypatch.chdir(tmp_path)
    assert read("camvid", root=Path("camvid")) == ("camvid", "camvid", None)
    assert read("camvid") == ("camvid", "camvid", None)
    with pytest.raises(ValueError, match="a set that goes by name has one size"):
        read("camvid", size=32)
    with pytest.raises(ValueError, match="two folders; leave --root out"):
        read(dense, root=dense)


@pytest.mark.parametrize("option", OF_A_CHOICE)
def test_an_option_that_would_have_no_effect_is_refused_with_what_takes_its_place(option: str) -> None:
    special: dict[str, Any] = {"data": Path("x"), "teacher_checkpoint": Path("x"), "validation": True}
    given: Any = {option: special.get(option, 3 if "epochs" in option else "x")}
    with pytest.raises(ValueError, match=f"in place of --{option.replace('_', '-')}, write"):
        Train(**given)._says_itself("--config", *OF_A_CHOICE)
    Train()._says_itself("--config", *OF_A_CHOICE)


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (Train(("digits",), config=Path("x"), out=Path("y")), "--config takes no recipe"),
        (Train(config=Path("x")), "needs --out"),
        (Train(("digits",), recipe="x"), "--recipe takes field=value only, got digits"),
        (Train(("digits", "cifar100")), "name one recipe .* got digits cifar100"),
        (Train(("x",), resume=True, seeds=3), "in place of --seeds, repeat the command"),
    ],
)
def test_words_that_do_not_go_together_are_refused(made: Train, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        made(quiet(), ())


def test_a_folder_among_the_names_is_taken_for_one_of_images(tmp_path: Path) -> None:
    assert _images_at(["digits"]) == ""
    assert _images_at(["digits", str(tmp_path)]).endswith(f"train folder --data {tmp_path}")


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (Study(("delta", "length")), "name one study"),
        (Study(("epochs=3",)), "name one study"),
        (Study(("delta",), full=True, on="digits"), "give one of the two"),
        (Study(("delta",), seeds=0), "--seeds must be at least 1"),
        (Study(("delta",), workers=0), "--workers must be at least 1"),
    ],
)
def test_a_study_is_named_alone(made: Study, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        made.look(quiet())


def test_a_study_of_the_full_size_has_its_own_folder_and_recipe() -> None:
    assert (Study(("delta",))._out().as_posix(), Study(("delta",))._recipe()) == ("runs/delta", None)
    assert (Study(("delta",), full=True)._out().as_posix(), Study(("delta",), full=True)._recipe()) == (
        "runs/delta-full",
        "cifar100",
    )
    assert Study(("delta",), on="cifar100-small", out=Path("o"))._recipe() == "cifar100-small"


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({}, "name a run folder, or a network"),
        ({"run": Path("r"), "student": "resnet8"}, "name a run folder, or a network"),
        ({"run": Path("r"), "size": 8, "device": "cpu"}, "--size, --device belong to --student"),
        ({"run": Path("r"), "teacher_checkpoint": Path("x")}, "--teacher-checkpoint belong to --student"),
        ({"student": "resnet8"}, "--student needs --checkpoint"),
        ({"student": "resnet8", "checkpoint": Path("x"), "teacher": "resnet20"}, "belong together"),
        ({"student": "resnet8", "checkpoint": Path("x"), "teacher_checkpoint": Path("y")}, "belong together"),
        ({"student": "resnet8", "checkpoint": Path("x"), "size": 8}, "--size belongs to a folder"),
        ({"student": "resnet8", "checkpoint": Path("x"), "data": "a/b", "root": Path("c")}, "are two folders"),
        ({"student": "resnet8", "checkpoint": Path("x"), "data": "digitz"}, "did you mean 'digits'"),
    ],
)
def test_a_run_or_a_network_is_measured_and_never_half_of_both(given: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Evaluate(**given)(quiet(), ())


def test_a_set_to_measure_on_is_a_name_or_a_folder(tmp_path: Path) -> None:
    made = Evaluate(student="resnet8", checkpoint=Path("x"), size=8)
    data = replace(made, data=str(tmp_path), validation=True)._images(quiet())
    assert (data.name, data.root, data.size, data.evaluate_on) == ("folder", str(tmp_path), 8, "validation")
    named = replace(made, data="cifar10", root=Path("r"), size=None)._images(quiet())
    assert (named.name, named.root, named.size, named.evaluate_on) == ("cifar10", "r", None, "test")


def test_photos_are_measured_as_in_the_run_in_whose_folder_the_weights_lie(tmp_path: Path) -> None:
    way = Data("folder", root="x", size=96, workers=0, crop_pct=0.9, interpolation="bicubic")
    (tmp_path / "config.yaml").write_text(to_yaml(Run(Network("resnet8"), MethodSpec("ce"), data=way)))
    console, weights = quiet(), tmp_path / "student.safetensors"
    made = Evaluate(student="resnet8", checkpoint=weights, data=str(tmp_path))
    found = as_trained(made._images(console), weights, console)
    assert found == (replace(way, root=str(tmp_path)), None)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "photos as in the run in whose folder the weights lie: size=96 workers=0 crop_pct=0.9 interpolation=" in said
    small = as_trained(replace(made, size=32)._images(quiet()), weights, quiet(), size=32)
    assert small == (replace(found[0], size=32), None)


def test_a_search_needs_two_seeds_and_one_recipe() -> None:
    with pytest.raises(ValueError, match="--seeds must be at least 2, got 1"):
        Tune(("digits",), seeds=1).look(quiet())
    with pytest.raises(ValueError, match="name one recipe"):
        Tune(("digits", "cifar100")).look(quiet())


def test_a_run_is_named_by_a_recipe_a_paper_or_a_file_that_says_itself_what_it_needs(tmp_path: Path) -> None:
    named = Named(student="resnet8")
    assert chosen_run(("digits", "epochs=3"), "dkd", Named(student="convnet_4_8")).student.name == "convnet_4_8"
    for name in (str(tmp_path), "x.yaml", "cifar100/dkd/resnet56__resnet20/mdistiller"):
        with pytest.raises(ValueError, match="says itself which networks and images"):
            chosen_run((name,), "kd", named)
    with pytest.raises(ValueError, match="name one config file, run folder or recipe; got none"):
        chosen_run(("epochs=3",), "kd")
    assert chosen_run(("cifar100/dkd/resnet56__resnet20/mdistiller", "epochs=2"), "kd").epochs == 2


# -- a folder of pictures -------------------------------------------------------------------------


def survey(**more: Any) -> Survey:
    facts: dict[str, Any] = {
        "root": Path("photos"),
        "classes": ("a", "b"),
        "train": (30, 50),
        "test": 20,
        "sides": (90, 100, 400),
        "sampled": 9,
        "unreadable": (),
        "size": 96,
        "nbytes": 1000,
        "available": 1000,
        "left_out": "",
    }
    return Survey(**{**facts, **more})


def plan(**more: Any) -> Plan:
    return Plan(survey(**more), Networks(), "why")


def test_pictures_are_loaded_one_by_one_where_they_do_not_fit_or_the_user_says_so() -> None:
    assert survey().fits
    assert not survey(nbytes=1001).fits
    small, large = plan(), plan(nbytes=1001)
    assert _loaded(small, {}) == []
    assert _loaded(large, {}) == ["data.workers=2", "data.shift=0"]
    assert _loaded(large, {"data.workers": "null"}) == []
    assert _loaded(small, {"data.workers": "4"}) == ["data.shift=0"]
    assert _loaded(large, {"data.shift": "2"}) == ["data.workers=2"]
    assert _loaded(large, {"data.resized_crop": "false"}) == ["data.workers=2"]
    assert _loaded(large, {"data.resized_crop": "true"}) == ["data.workers=2", "data.shift=0"]


def test_what_is_kept_on_disk_is_said_at_its_size() -> None:
    (told,) = _kept(plan(), {}, [])
    assert f"at most about {in_bytes(3 * 96**2 * 100)} in" in told
    first, second = _kept(plan(), {}, ["data.workers=2"])
    assert "by two processes" in first
    assert f"at most about {in_bytes(3 * 192**2 * 150)} in" in second  # longer sides count half as much more
    assert _kept(plan(), {"data.cache": "false"}, []) == []
    assert _kept(plan(), {"data.workers": "2"}, [])[0] == second


def test_batches_and_lengths_follow_from_the_number_of_pictures_unless_they_are_said() -> None:
    found = _by_number(plan(), {}, None)
    assert found.batch_size is not None
    assert found.epochs is not None
    few = _by_number(plan(), {"data.labels_per_class": "3"}, None)
    assert few.batch_size is not None
    assert few.batch_size <= 3 < found.batch_size
    assert _by_number(plan(), {"data.batch_size": "4", "epochs": "3"}, None) == plan()
    assert _by_number(plan(), {}, 5).epochs is None


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ((("folder",), 60, 5), {"epochs": 60}),
        ((("folder", "teacher.pretrained=true"), 60, None), {"epochs": 60}),
        ((("folder", "teacher.pretrained=false"), 60, None), {"epochs": 60, "teacher_epochs": 60}),
    ],
)
def test_a_teacher_s_length_follows_unless_it_is_said_or_fine_tuned(arguments: Any, found: dict[str, int]) -> None:
    assert lengths(*arguments) == found


def test_only_the_recipe_folder_is_looked_at() -> None:
    for what in (("digits",), ("folder", "data.name=cifar10")):
        assert settled(what, quiet()) == (what, None)


# -- the papers' recipes ---------------------------------------------------------------------------


def test_the_list_has_a_line_per_recipe_and_counts_what_can_be_trained() -> None:
    text = StringIO()
    shown = print_recipes(["DKD/", "mdistiller", "cifar100"], Console(file=text, width=400))
    found = [r for r in papers().values() if all(w in f"{r.id} {r.source}".lower() for w in ("dkd/", "mdistiller"))]
    found = [r for r in found if "cifar100" in r.id]
    lines = text.getvalue().splitlines()
    assert shown == len(found)
    assert lines[-1] == f"{shown} recipes, {sum(r.runnable for r in found)} of them can be trained as they are"
    assert [line.split()[0] for line in lines[1 : 1 + shown]] == [r.id for r in found]
    starts = {line.index(r.method, len(r.id)) for line, r in zip(lines[1:], found, strict=False)}
    assert len(starts) == 1
    with pytest.raises(ValueError, match="no recipe holds 'nowhere'"):
        print_recipes(["dkd", "nowhere"], quiet())
    with pytest.raises(ValueError, match="no recipe holds all of"):
        print_recipes(["imagenet/", "cifar100/"], quiet())
    assert recipe_run(found[0].id, ["epochs=2"]).epochs == 2


def test_lines_of_a_recipe_are_as_long_as_they_are_where_the_terminal_is_narrow() -> None:
    shown = []
    for width in (400, 30):
        text = StringIO()
        show_recipe(next(iter(papers())), Console(file=text, width=width))
        shown.append(text.getvalue())
    assert shown[0] == shown[1]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_nothing_that_is_there_is_trained_again_unasked(name: str) -> None:
    assert not getattr(command(name), "overwrite", False)  # what it is by default


def test_help_and_versions_are_no_commands_and_unknown_ones_name_the_nearest() -> None:
    assert _parse(["--help"]) is None
    with pytest.raises(ValueError, match="did you mean 'train'"):
        _parse(["trian"])
