"""What a study plans, foretells, chooses and measures, on numbers made up here: nothing is trained."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from fractionate._headlines import HEADLINES, Headline
from fractionate.config.method import MethodSpec
from fractionate.config.run import Network, Run
from fractionate.runs.stop import Stop
from fractionate.studies import pace as pace_module
from fractionate.studies import units as units_module
from fractionate.studies.certainty import SURE, Sums, knowledge
from fractionate.studies.chosen import LONGEST, _first_seed, file_name, folder_name, for_teacher, student_jobs
from fractionate.studies.conduct import Conductor, best
from fractionate.studies.display import Lines, _place
from fractionate.studies.jobs import Event, Job, Options, run_jobs
from fractionate.studies.pace import Pace, paced
from fractionate.studies.plan import Arm, Contrast, Study, Teaching, against, beside, cost, retuned
from fractionate.studies.questions import STUDIES, announced
from fractionate.studies.shipped import _make_room, _newer
from fractionate.studies.sides import TUNING, Setting, Side, _folder
from fractionate.studies.turns import Surroundings, _note, _turn_of
from fractionate.studies.units import AT_ONCE, TEACHER, _length, _parts, _paying
from fractionate.studies.usual import controls
from fractionate.tasks import Diverged
from fractionate.train.build import prepare
from tests.train.runs import tiny

ARMS = (
    Arm("alone", "ce"),
    Arm("kd", "kd(temperature={})", values=("1", "2", "4"), length=2.0),
    Arm("again", "kd(temperature={})", follows="kd", last=True),
    Arm("frozen", "kd", begins="alone", length=0.5),
)


TAUGHT = Network("convnet_16_32_64", "t.safetensors")


def study(*arms: Arm, contrasts: Sequence[Contrast] = (), **more: Any) -> Study:
    return Study("toy", "?", "", arms or ARMS, tuple(contrasts), **more)


def quiet() -> Console:
    return Console(file=StringIO(), width=200)


# -- plans -------------------------------------------------------------------------------------


def test_every_student_is_counted_with_its_length() -> None:
    assert cost(study(tuning_seeds=2, seeds=5)) == (26, 5 + 11 * 2.0 + 5 + 5 * 0.5)
    assert cost(study(tuning_seeds=3), seeds=1) == (13, 1 + 10 * 2.0 + 1 + 0.5)


def test_a_budget_is_said_by_its_parts() -> None:
    told = announced(study(tuning_seeds=2), 1, None, Path("out"))[1]
    assert "budget: 10 students of digits, 16 times its length (6 on the validation part, which chooses, 4" in told
    assert "teachers: 2; into out" in told
    assert "teachers: 1;" in announced(study(ARMS[0], Arm("x", "ce", ("a={}",), values=("1",))), 1, "mine", Path())[1]
    pairs = [Arm(n, "kd", teacher=t, length=0.75) for n, t in zip("abcd", "xyxy", strict=True)]
    two = announced(study(*pairs, teachers=(Teaching("x"), Teaching("y"))), 1, "mine", Path())[1]
    assert "4 students of mine, 3 times its length (all on the test part); teachers: 2;" in two


@pytest.mark.parametrize(
    ("arms", "more", "named"),
    [
        ((Arm("a", "kd"), Arm("a", "ce")), {}, "every arm needs a name of its own"),
        ((Arm("a", "kd"), Arm("b", "kd", follows="c")), {}, r"\['c'\] has none"),
        ((Arm("a", "kd"), Arm("b", "kd", begins="c")), {}, r"\['c'\] has none"),
        ((Arm("a", "kd"),), {"contrasts": against("a", "c")}, r"\['c'\] has none"),
        ((Arm("a", "kd"),), {"contrasts": against("c", "a")}, r"\['c'\] has none"),
        ((Arm("a", "kd"),), {"pilots": (("a", "c"),)}, r"\['c'\] has none"),
        ((Arm("a", "kd", teacher="t"),), {}, r"no teacher is named \['t'\]"),
        ((Arm("a", "kd"), Arm("b", "kd({})", values=("1",), begins="a")), {}, "b begins with the weights of a"),
        ((Arm("a", "kd"), Arm("b", "kd", begins="a"), Arm("c", "kd", begins="b")), {}, "name an arm without begins"),
    ],
)
def test_a_plan_that_names_what_is_not_there_is_refused(arms: Any, more: Any, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        study(*arms, **more)


def test_controls_take_over_what_validation_chose() -> None:
    arm = Arm("deep", "kd+deepkd(keep={})", values=("1", "2"), pilot=0.2, length=2.0)
    first, normal, plain = beside(arm)
    assert first is arm
    assert [(a.name, a.method) for a in (normal, plain)] == [
        ("deep, gain normalised", "kd+deepkd(keep={}, normalize_gain=true)"),
        ("deep, as weights", "kd+deepkd(keep={})+reweighted"),
    ]
    assert {(a.values, a.pilot, a.follows, a.length) for a in (normal, plain)} == {((), 1.0, "deep", 2.0)}
    fixed = beside(Arm("d", "kd+dot"))
    assert [(a.name, a.method, a.follows) for a in fixed[1:]] == [("d, as weights", "kd+dot+reweighted", "")]
    for method in ("kd", "kd+deepkd+reweighted", "kd+lskd"):
        with pytest.raises(ValueError, match="no streams whose gains"):
            beside(Arm("x", method))
    assert beside(Arm("d", "kd+deepkd"))[1].method == "kd+deepkd(normalize_gain=true)"


def test_controls_beside_methods_are_those_that_are_missing() -> None:
    def run_of(spec: MethodSpec) -> Run:
        return Run(student=Network("resnet8"), teacher=Network("resnet20"), method=spec)

    def of(*texts: str) -> list[str]:
        return [str(spec) for spec in controls([MethodSpec.parse(text) for text in texts], run_of)]

    assert of("kd", "dkd+lskd") == []
    assert of("kd+deepkd(normalize_gain=True)") == []
    assert of("kd+deepkd(normalize_gain=False)") == [
        "kd+deepkd(normalize_gain=False)+reweighted",
        "kd+deepkd(normalize_gain=True)",
    ]
    assert of("kd+dot", "kd+dot+reweighted") == []
    assert of("kd+lskd+dot") == ["kd+lskd+dot+reweighted"]


def test_what_is_retuned_keeps_its_other_changes() -> None:
    (arm,) = retuned([Arm("a", "kd", ("epochs=3",))], "optimizer.lr", ["0.1", "0.2"])
    assert (arm.changes, arm.values) == (("epochs=3", "optimizer.lr={}"), ("0.1", "0.2"))
    assert arm.changed("0.2") == ("epochs=3", "optimizer.lr=0.2")


def test_a_value_is_chosen_by_its_mean_among_those_that_are_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = {"1": [80.0, 81.0], "2": [float("nan"), 99.0], "4": [90.0, 70.0], "8": [81.0, 80.0]}
    assert best(tried).value == "1"
    assert best({"1": [float("nan")], "2": [float("nan")]}).value == "1"
    monkeypatch.setitem(HEADLINES, "error", Headline("error", "error", "error", higher=False))
    facts = {"schema": 1, "headline": "error", "last_error": 1.0, "method": "kd", "seed": 0}
    (tmp_path / "summary.json").write_text(json.dumps(facts))
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1}\n')
    assert best(tried, {"1": [tmp_path]}).value == "4"
    assert best(tried).tried == tried


def conductor(plan: Study, setting: Setting | None = None, **more: Any) -> Conductor:
    return Conductor(plan, setting or Setting(), Path("out"), quiet(), Options(**more))


def test_arms_that_begin_with_others_weights_wait_and_controls_come_last() -> None:
    waves = conductor(study())._waves()
    assert [[arm.name for arm in wave] for wave in waves] == [["alone", "kd"], ["again"], ["frozen"]]


@pytest.mark.parametrize("change", ["seed=1", " method = kd", "method.args.beta=2", "data.evaluate_on=x"])
def test_what_a_study_decides_itself_cannot_be_changed(change: str) -> None:
    with pytest.raises(ValueError, match="is what a study decides itself"):
        conductor(study(), Setting(changes=(change,)))._check()
    conductor(study(), Setting(changes=("data.batch_size=3", "optimizer.lr=1")))._check()


# -- one part of the images ----------------------------------------------------------------------


def side(plan: Study, *, validation: bool = False, setting: Setting | None = None) -> Side:
    setting = setting or Setting(epochs=10, teacher_epochs=8)
    return Side(plan, setting, Path("out"), validation, quiet(), Options(), {"": TAUGHT})


def test_a_student_s_run_has_the_length_the_folder_and_the_title_of_its_arm() -> None:
    here = side(study())
    jobs = [here.job(arm, value, 3) for arm, value in zip(ARMS, ("", "4", "4", ""), strict=True)]
    assert [(j.title, j.folder.as_posix(), j.run.epochs, j.run.seed) for j in jobs] == [
        ("alone, seed 3", "out/alone/seed-3", 10, 3),
        ("kd (4), seed 3", "out/kd=4/seed-3", 20, 3),
        ("again (4), seed 3", "out/again=4/seed-3", 10, 3),
        ("frozen, seed 3", "out/frozen/seed-3", 5, 3),
    ]
    assert jobs[1].run.method.args["temperature"] == 4
    assert jobs[3].run.student.checkpoint == str(Path("out/alone/seed-3/student.safetensors"))
    assert jobs[1].run.teacher == here.taught[""]
    assert all(job.run.monitors == tiny().monitors for job in jobs)
    watched = side(replace(study(), watched=True))
    assert watched.job(ARMS[0], "", 0).run.monitors != tiny().monitors
    here.taught.clear()
    assert here.job(ARMS[0], "", 0).run.teacher is None


def test_on_the_validation_part_the_title_says_so_and_a_pilot_sees_its_share() -> None:
    plan = study(Arm("kd", "kd", pilot=0.25), Arm("alone", "ce"))
    here = side(plan, validation=True)
    job = here.job(plan.arms[0], "", TUNING, pilot=True)
    assert job.title == "kd, validation, seed 1000"
    assert (job.run.data.labels_per_class, job.run.data.evaluate_on) == (2, "validation")
    assert here.job(plan.arms[0], "", TUNING).run.data.labels_per_class == 10
    assert side(plan).job(plan.arms[0], "", 0).run.data.evaluate_on == "test"


def test_a_teacher_s_run_has_its_changes_its_length_and_its_folder() -> None:
    weak = Teaching("weak", "w", ("optimizer.lr=1",), 0.3)
    plan = study(Arm("a", "kd"), Arm("b", "kd", teacher="weak"), teachers=(Teaching(), weak))
    first, second = side(plan).teachers(plan.arms)
    assert [(j.folder.as_posix(), j.run.epochs, j.run.optimizer.lr) for j in (first, second)] == [
        ("out/teacher", 8, 0.1),
        ("out/teacher-weak", 2, 1.0),
    ]
    assert side(plan, setting=Setting(teacher_epochs=1)).teachers(plan.arms)[1].run.epochs == 1
    assert [job.folder.name for job in side(plan).teachers(plan.arms[:1])] == ["teacher"]
    assert side(plan, setting=Setting(epochs=1)).job(plan.arms[0], "", 0).run.epochs == 1
    assert _folder(Arm("labels alone (x)", "ce"), "") == "labels_alone__x"


def test_an_arm_begins_with_the_weights_of_the_value_that_was_chosen() -> None:
    arms = (Arm("a", "kd(temperature={})", values=("1", "4")), Arm("b", "ce", begins="a"))
    here = side(study(*arms))
    here.chosen["a"] = "4"
    assert here.job(arms[1], "", 3).run.student.checkpoint == "out/a=4/seed-3/student.safetensors"


def test_the_study_of_ratios_states_the_windows_that_its_runs_fill() -> None:
    plan = STUDIES["gsnr"]
    here = side(plan, setting=Setting())
    filled: dict[str, set[tuple[int, int]]] = {}
    for arm in plan.arms:
        run = here.job(arm, "", 0).run
        alone = replace(run, student=tiny().student, teacher=None, method=tiny("ce").method)
        steps = run.epochs * len(prepare(alone).train)
        assert run.monitors.gsnr_window
        phase = next(word for word in ("frozen", "early", "middle", "late") if word in arm.name)
        filled.setdefault(phase, set()).add((steps // run.monitors.gsnr_window, run.monitors.gsnr_window))
    assert filled == {"early": {(1, 10)}, "middle": {(5, 20)}, "late": {(15, 20)}, "frozen": {(2, 20)}}
    assert "1 window of 10 steps early, 5 of 20 in the middle, 15 late, and 2 where frozen" in plan.about


# -- times -----------------------------------------------------------------------------------------


def test_a_run_s_seconds_are_its_steps_by_passes_and_its_evaluations() -> None:
    found = Pace(step=2.0, asked=5.0, evaluation=7.0, steps=10, passes=2)
    one, two = tiny("kd", epochs=3), tiny("dkd+dot", epochs=4)
    assert found.own(one) == 3 * (10 * 2.0 + 7.0)
    assert found.own(two) == 4 * (10 * 2.0 * 3 / 2 + 7.0)
    assert found.unit([one, two]) == found.own(one) + found.own(two) + 4 * 10 * 5.0
    assert found.unit([tiny("ce")]) == found.own(tiny("ce"))


@pytest.mark.parametrize("batch", [5, 20])  # 4 steps an epoch, and 1
def test_the_first_step_of_a_process_says_nothing_about_the_others(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    def step(*_: Any) -> None:
        clock.append(clock[-1] + (3.0 if len(clock) > 1 else 60.0))  # libraries are read, kernels are built

    run = tiny("ce")
    training = prepare(replace(run, data=replace(run.data, batch_size=batch)))
    monkeypatch.setattr(pace_module, "Loop", lambda _: SimpleNamespace(stepper=step))
    monkeypatch.setattr(pace_module, "time", SimpleNamespace(perf_counter=lambda: clock[-1]))
    assert pace_module._step(training) == (3.0, 0.0)
    assert len(clock) == 3  # one step of three seconds is enough


def test_several_processes_end_when_the_last_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Run] = []

    def pace(run: Run) -> Pace:
        asked.append(run)
        return Pace(step=1.0, asked=0.0, evaluation=0.0, steps=1, passes=2)

    monkeypatch.setattr(pace_module, "pace", pace)
    jobs = [Job("", tiny(m, epochs=n), Path()) for m, n in (("ce", 5), ("kd", 4), ("kd", 3), ("kd", 3))]
    assert [paced(jobs, workers) for workers in (1, 2, 3, 9)] == [15, 8, 6, 5]
    assert {str(run.method) for run in asked} == {"kd"}
    assert paced(jobs, 2, [(0, 1), (2, 3)]) == 9


def test_units_are_even_and_the_shortest_way_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _parts(list(range(7)), 3) == [(0, 1), (2, 3), (4, 5, 6)]
    assert _parts([5], 0) == [(5,)]
    assert _length([(0, 1), (2,)], 2) == (TEACHER + 2, 2 * TEACHER + 3)
    assert _length([(0,)] * 3, 2) == (2 * (TEACHER + 1), 3 * (TEACHER + 1))
    jobs = [Job("", tiny("kd"), Path()) for _ in range(20)]
    assert _paying(jobs, [range(20)], 1) == 7  # in three processes' worth of parts: 7, 7 and 6
    assert _paying([Job("", tiny("ce"), Path())] * 3, [range(3)], 1) == 1
    monkeypatch.setattr(units_module, "place", lambda name: SimpleNamespace(type="cuda"))
    assert _paying(jobs, [range(20)], 1) == 1
    graph = [replace(job, run=replace(job.run, graph=True, device="cuda")) for job in jobs]
    assert _paying(graph, [range(20)], 1) == AT_ONCE


# -- what a teacher knows --------------------------------------------------------------------------


def test_a_teacher_s_certainty_is_counted_by_hand() -> None:
    torch.manual_seed(0)
    z, y = 4 * torch.randn(40, 5), torch.arange(40) % 5
    z[0] = torch.tensor([100.0, 0, 0, 0, 0])
    sums = Sums(2.0)
    for part, labels in ((z[:15], y[:15]), (z[15:], y[15:])):
        sums.add(part, labels)
    e = np.exp(z.double().numpy() - z.double().numpy().max(1, keepdims=True))
    p, warm = e / e.sum(1, keepdims=True), np.sqrt(e) / np.sqrt(e).sum(1, keepdims=True)
    label = p[range(40), y.numpy()]
    assert sums.means() == pytest.approx(
        {
            "train": 100 * np.mean(p.argmax(1) == y.numpy()),
            "label": label.mean(),
            "label_at_t": warm[range(40), y.numpy()].mean(),
            "sure": np.mean(label > SURE),
            "temperature": 2.0,
        }
    )
    assert SURE == 0.99


def test_what_a_teacher_knows_is_said_with_its_unit() -> None:
    found = {"name": "weak", "train": 50.0, "label": 0.5, "of": "pixels", "headline": "miou", "score": 40.0}
    assert knowledge(found) == (
        "teacher weak: 50.00 % of the pixels of the training images right, mean probability of their label 0.500; "
        "40.00 % mIoU on them"
    )


# -- side by side ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("unchecked")
def test_a_run_finds_every_generator_as_it_left_it() -> None:
    before = Surroundings.now()
    drawn = [torch.rand(3), random.random(), np.random.rand()]  # noqa: NPY002
    torch.set_num_threads(torch.get_num_threads() + 1)
    before.restore()
    again = [torch.rand(3), random.random(), np.random.rand()]  # noqa: NPY002
    assert torch.equal(drawn[0], again[0])
    assert drawn[1:] == again[1:]
    assert torch.get_num_threads() == before.threads


@pytest.mark.usefixtures("unchecked")
def test_who_is_behind_comes_first_and_who_begins_changes_from_step_to_step() -> None:
    def at(step: int, name: int) -> Any:
        return SimpleNamespace(name=name, loop=SimpleNamespace(training=SimpleNamespace(step=step)))

    for step in range(5):
        students = [at(step, n) for n in range(3)]
        order = sorted(students, key=lambda one: _turn_of(one, students))
        assert students.index(order[0]) == step % 3
        assert [students.index(one) for one in order] == [(step + i) % 3 for i in range(3)]
    behind = [at(4, 0), at(3, 1), at(4, 2)]
    assert min(behind, key=lambda one: _turn_of(one, behind)) is behind[1]


@pytest.mark.usefixtures("unchecked")
def test_only_a_failure_that_may_be_everybody_s_stops_the_others() -> None:
    student: Any = SimpleNamespace(title="kd")
    for error, says, stops in ((Diverged("x"), "go on", False), (OSError("y"), "stop now and are saved", True)):
        failures: list[Exception] = []
        with Stop() as stop:
            with pytest.warns(UserWarning, match=says):
                _note(error, student, failures, stop)
            assert (stop.reason is not None) is stops
        assert failures == [error]


def test_two_runs_into_one_folder_are_refused() -> None:
    jobs = [Job("", tiny(), Path(name)) for name in ("a", "b", "a")]
    with pytest.raises(ValueError, match="two runs would be written to a"):
        run_jobs(jobs, Options(), lambda event: None)


# -- names -----------------------------------------------------------------------------------------


def test_a_name_is_cut_where_it_is_too_long_and_stays_its_own() -> None:
    assert file_name("x" * LONGEST) == "x" * LONGEST
    cut = [file_name("x" * LONGEST + end) for end in "ab"]
    assert [len(name) for name in cut] == [LONGEST, LONGEST]
    assert cut[0] != cut[1]
    assert cut[0][:92] == "x" * 91 + "-"
    assert folder_name(MethodSpec.parse("dkd(beta=2, warmup=3)")) == "dkd_beta=2,warmup=3".replace(",", "_")


def test_first_seeds_come_first_and_the_seed_is_counted_from_the_one_that_is_given() -> None:
    specs = [MethodSpec("kd"), MethodSpec("dkd")]
    jobs = student_jobs(specs, lambda spec, seed: tiny(spec, seed=seed), range(4, 6), Path("out"))
    assert [(j.title, j.folder.as_posix(), j.run.seed) for j in jobs] == [
        ("kd, seed 4", "out/kd/seed-4", 4),
        ("dkd, seed 4", "out/dkd/seed-4", 4),
        ("kd, seed 5", "out/kd/seed-5", 5),
        ("dkd, seed 5", "out/dkd/seed-5", 5),
    ]
    alike = [MethodSpec.parse("dkd"), MethodSpec.parse("kd+deepkd"), MethodSpec.parse("kd+deepkd(normalize_gain=true)")]
    named = [j.title for j in student_jobs(alike, lambda spec, seed: tiny(spec, seed=seed), [0], Path("out"))]
    assert named == ["dkd, seed 0", "kd+deepkd, seed 0", "kd+deepkd(normalize_gain=True), seed 0"]
    assert _first_seed(["epochs=3", " seed = 7"]) == (7, ["epochs=3"])
    assert _first_seed(["seed=x"]) == (0, ["seed=x"])


def test_a_teacher_takes_over_which_images_and_where_and_no_more() -> None:
    said = ["data.size=8", "data.batch_size=4", "data.shift=0", "optimizer.lr=1", "threads=2", "teacher.checkpoint=x"]
    assert for_teacher(said, "cifar100") == ["data.size=8", "threads=2"]
    assert for_teacher(said, "folder") == ["data.size=8", "data.batch_size=4", "data.shift=0", "threads=2"]
    assert for_teacher(["teacher.published_bn=true"]) == ["student.published_bn=true"]


def test_an_export_is_made_anew_where_the_run_is_newer_and_nothing_else_is_removed(tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    for folder in (run, out):
        folder.mkdir()
    (run / "summary.json").touch()
    assert not _newer(out, run)
    (out / "README.md").touch()
    for age, newer in ((10, True), (0, True), (-10, False)):
        os.utime(out / "README.md", ns=(0, (run / "summary.json").stat().st_mtime_ns + age))
        assert _newer(out, run) is newer
    for name in ("training.yaml", "config.json"):
        _make_room(out)
        assert (out / "README.md").is_file()
        (out / name).touch()
    _make_room(out)
    assert not out.exists()


# -- lines -----------------------------------------------------------------------------------------


def told(events: Sequence[tuple[float, Event]], *, epochs: Sequence[int] = (10, 10), **more: Any) -> list[str]:
    clock = iter([0.0, *(at for at, _ in events)])
    text = StringIO()
    jobs = [Job(f"job {n}", tiny("ce", epochs=length), Path()) for n, length in enumerate(epochs)]
    lines = Lines(Console(file=text, width=200), jobs, clock=lambda: next(clock), **more)
    for _, event in events:
        lines(event)
    return text.getvalue().splitlines()


def test_there_is_a_line_soon_and_after_a_minute_of_silence_and_one_at_the_end_of_a_job() -> None:
    events = [
        (5.0, Event(0, 0, 10)),
        (9.0, Event(0, 0.1, 10, images_per_s=1000.0)),
        (11.0, Event(0, 0.2, 10, images_per_s=1000.0)),
        (30.0, Event(0, 0.5, 10, images_per_s=1000.0)),
        (70.0, Event(0, 1, 10, 50.0, 1000.0)),
        (75.0, Event(0, 2, 10, 60.0, 1234.0)),
        (136.0, Event(0, 2.5, 10, images_per_s=1234.0)),
        (140.0, Event(0, 10, 10, 70.0, done=True)),
        (141.0, Event(1, 10, 10, None, done=True)),
    ]
    assert told(events) == [
        "[0/2, 11 s] job 0: 20 % of epoch 1 of 10, 1,000 images/s",
        "[0/2, 75 s] job 0: epoch 2 of 10, 60.00 % top-1, 1,234 images/s, about 10 min left",
        "[0/2, 136 s] job 0: 50 % of epoch 3 of 10, 60.00 % top-1, 1,234 images/s, about 15 min left",
        "[1/2, 140 s] job 0: 70.00 % top-1",
        "[2/2, 141 s] job 1: no top-1",
    ]
    assert told(events, ends=False) == told(events)[:3]


def test_a_resumed_job_counts_from_where_it_goes_on() -> None:
    events = [
        (0.0, Event(0, 0, 10)),
        (0.0, Event(0, 8, 10)),
        (3600.0, Event(0, 9, 10, 50.0, 1.0)),
    ]
    assert told(events, epochs=(10,)) == [
        "[0/1, 3600 s] job 0: epoch 9 of 10, 50.00 % top-1, 1 images/s, about 1 h 00 min left"
    ]


def test_a_place_inside_an_epoch_is_told_by_its_share() -> None:
    assert _place(Event(0, 0.25, 4)) == "25 % of epoch 1 of 4"
    assert _place(Event(0, 3.0, 4)) == "epoch 3 of 4"
