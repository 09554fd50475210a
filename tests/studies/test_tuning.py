"""A budget in, a student out: on a toy of a few images, every property of the search that a user relies on."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import json
from dataclasses import replace
from io import StringIO
from pathlib import Path
from random import Random

import pytest
import torch
from rich.console import Console

from fractionate.cli import main
from fractionate.config.data import Data
from fractionate.config.method import MethodSpec
from fractionate.config.run import Network, Run
from fractionate.methods import Method
from fractionate.recipes import RECIPES
from fractionate.report.tuning import Try
from fractionate.rows import Logits, Progress
from fractionate.runs.folder import RunFolder
from fractionate.runs.runner import run_in_folder
from fractionate.runs.stop import Stopped
from fractionate.studies import shipped
from fractionate.studies.chosen import Choice
from fractionate.studies.jobs import Job, Options
from fractionate.studies.tuning import Budget, Wish, tune
from fractionate.studies.tuning import search as search_module
from fractionate.studies.tuning import store as store_module
from fractionate.studies.tuning.budget import divided, largest, price, rungs
from fractionate.studies.tuning.rungs import reached, train_rung, train_to, why_failed
from fractionate.studies.tuning.space import (
    AROUND,
    DIRECTIONS,
    WEIGHTS,
    Setting,
    drafts,
    fitting,
    published,
    suggested,
    uncontrolled,
    wrapper_axis,
)
from fractionate.studies.tuning.store import Store
from fractionate.studies.usual import drafted, methods_of
from fractionate.train import sources

tune_module = importlib.import_module("fractionate.studies.tuning.tune")

EPOCHS = 3
TOY = Choice(
    "digits",
    teacher_epochs=1,
    epochs=EPOCHS,
    student="convnet_4_8",
    changes=["data.labels_per_class=2", "data.passes=1", "data.batch_size=10"],
)
WISH = Wish(TOY, Budget(14, "runs"), seeds=2, methods=("kd", "dkd", "gdkd", "nkd"))


def tuned(wish: Wish, out: Path, workers: int = 1, *, overwrite: bool = False) -> tuple[Path, str]:
    text = StringIO()
    console = Console(file=text, width=200)
    return tune(
        wish, out, console, Options(overwrite=overwrite, command=("fractionate", "tune")), workers
    ), text.getvalue()


def facts(out: Path) -> dict[str, object]:
    """What was found, without times and places."""
    found = json.loads((out / "tune.json").read_text())
    found["tries"] = [{k: v for k, v in t.items() if k != "seconds"} for t in found["tries"]]
    found["arms"] = [{k: v for k, v in a.items() if k != "seconds"} for a in found["arms"]]
    return {key: found[key] for key in ("tries", "arms", "usual", "baseline", "metric")}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    out = tmp_path_factory.mktemp("tuned")
    with pytest.MonkeyPatch.context() as patch:  # no ONNX files, as in all tests of this folder
        patch.setattr(shipped, "ONNX_NEEDS", ("no_such_package",))
        return out, *tuned(WISH, out)


def toy(epochs: int = 4, **changes: object) -> Run:
    data = Data("digits", labels_per_class=2, batch_size=10, shift=1, evaluate_on="validation")
    run = Run(
        student=Network("convnet_4_8"), method=MethodSpec("ce"), data=data, epochs=epochs, device="cpu", threads=1
    )
    return replace(run, save_every=0, **changes)


def rows(folder: Path) -> list[dict[str, object]]:
    timed = ("seconds", "images_per_s")
    return [{k: v for k, v in row.items() if k not in timed} for row in RunFolder(folder).metrics()]


def quiet() -> Console:
    return Console(file=StringIO())


def test_a_student_that_stops_at_every_rung_equals_one_that_was_never_stopped(tmp_path: Path) -> None:
    run_in_folder(toy(), tmp_path / "whole")
    for until in (1, 2, 4):
        train_to([Job("toy", toy(), tmp_path / "rungs", until)], Options(), quiet(), "", 1, lambda: None)
        assert len(RunFolder(tmp_path / "rungs").metrics()) == until
    assert rows(tmp_path / "rungs") == rows(tmp_path / "whole")
    one, other = (RunFolder(tmp_path / name).student.read_bytes() for name in ("whole", "rungs"))
    assert one == other


@pytest.mark.slow
def test_processes_change_no_number(tmp_path: Path) -> None:
    for name, workers in (("one", 1), ("two", 2)):
        jobs = [Job(f"{seed}", toy(2, seed=seed), tmp_path / name / f"{seed}", 1) for seed in (0, 1)]
        train_to(jobs, Options(), quiet(), "", workers, lambda: None)
    assert [rows(tmp_path / "one" / str(seed)) for seed in (0, 1)] == [
        rows(tmp_path / "two" / str(seed)) for seed in (0, 1)
    ]
    assert not RunFolder(tmp_path / "two" / "0").finished


def test_a_deadline_ends_a_rung_and_loses_nothing(tmp_path: Path) -> None:
    job = Job("toy", toy(), tmp_path / "run", 2)
    with pytest.raises(Stopped):
        train_to([job], Options(deadline=0.0), quiet(), "", 1, lambda: None)
    train_to([job], Options(), quiet(), "", 1, lambda: None)
    assert reached(job.folder, 2) is not None


def test_the_winner_s_folder_is_whole_and_handed_over(done: tuple[Path, Path, str]) -> None:
    _, winner, _ = done
    assert RunFolder(winner).finished
    assert RunFolder(winner).student.is_file()
    assert (winner.parent / "exported" / "README.md").is_file()
    assert RunFolder(winner).config().data.evaluate_on == "test"
    assert RunFolder(winner).config().seed == 1000


def test_every_method_as_it_comes_is_among_the_first(done: tuple[Path, Path, str]) -> None:
    tries = facts(done[0])["tries"]
    assert [t["label"] for t in tries[:4]] == ["kd", "dkd", "gdkd", "nkd"]
    assert [t["usual"] for t in tries] == [True] * 4 + [False] * (len(tries) - 4)
    assert len(tries) > 4
    assert tries[0]["whole"]  # kd goes to the end


def test_the_budget_is_kept(done: tuple[Path, Path, str]) -> None:
    ledger = Store(done[0], tune_module._about(WISH, [Setting(m) for m in WISH.methods])).ledger
    assert sum(runs for runs, _ in ledger.values()) <= WISH.budget.amount
    epochs = sum(len(RunFolder(f).metrics()) for f in done[0].rglob("student-*")) / EPOCHS
    assert epochs == pytest.approx(
        sum(runs for key, (runs, _) in ledger.items() if key.startswith(("search", "finals")))
    )


def test_the_page_says_whether_the_winner_can_be_told_from_kd(done: tuple[Path, Path, str]) -> None:
    page, text = (done[0] / "tune.html").read_text("utf-8"), done[2]
    winner = facts(done[0])["arms"][0]["label"]
    says = ("cannot be told from kd", "kd by more than the spread", "nothing better than kd")
    said = [words for words in says if words in text]
    assert len(said) == 1
    assert page.count(said[0]) >= 1
    assert winner.replace("'", "&#39;") in page
    assert "<script" not in page
    assert "http:" not in page
    assert "https:" not in page


def test_what_is_finished_is_not_trained_again(done: tuple[Path, Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    before = facts(done[0])
    monkeypatch.setattr("fractionate.studies.tuning.rungs.run_in_folder", lambda *_, **__: pytest.fail("trained again"))
    winner, _ = tuned(WISH, done[0])
    assert winner == done[1]
    assert facts(done[0]) == before


@pytest.mark.parametrize("after", [3, 8])
def test_a_search_that_was_ended_anywhere_finds_the_same(
    done: tuple[Path, Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """As kill -9 leaves it: rungs are over that nobody wrote down, or proposals are half written."""
    calls = iter(range(after))
    write = Store._book

    def die(*args: object) -> None:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        write(*args)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "_book", die)
        with pytest.raises(KeyboardInterrupt):
            tuned(WISH, tmp_path)
    tuned(WISH, tmp_path)
    assert facts(tmp_path) == facts(done[0])


def test_test_images_are_read_by_the_confirmation_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, confirming = [], []
    digits = sources.digits

    def reading(part: str, *rest: object) -> object:
        read.append((part, bool(confirming)))
        return digits(part, *rest)

    def settings(finalists: object) -> object:
        confirming.append(1)
        return arms(finalists)

    arms = tune_module.arms
    monkeypatch.setattr(sources, "digits", reading)
    monkeypatch.setattr(tune_module, "arms", settings)
    tuned(WISH, tmp_path)
    assert ("validation", False) in read
    assert ("test", True) in read
    assert ("test", False) not in read


def test_a_student_that_diverges_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proposed: list[Setting] = []

    def wild(*args: object) -> Setting:
        proposed.append(suggested(*args))
        return Setting("kd", 1e30) if len(proposed) == 1 else proposed[-1]

    monkeypatch.setattr(store_module, "suggested", wild)
    winner, text = tuned(WISH, tmp_path)
    failed = [t for t in facts(tmp_path)["tries"] if t["fault"]]
    assert [t["label"] for t in failed] == ["kd, rate x 1e+30"]
    assert "diverged" in failed[0]["fault"]
    assert "1 failed" in text
    assert RunFolder(winner).finished
    assert "failed: training diverged" in (tmp_path / "tune.html").read_text("utf-8")


def test_a_larger_budget_goes_on_and_other_settings_are_refused(
    done: tuple[Path, Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, _, _ = done
    before = len(facts(out)["tries"])
    with monkeypatch.context() as patch:  # Optuna cannot go on along another axis
        patch.setattr(tune_module, "AROUND", (*AROUND, "reweighted"))
        with pytest.raises(ValueError, match=r"other settings \(wrappers\)"):
            tuned(WISH, out)
    with pytest.raises(ValueError, match=r"other settings \(epochs\).*--out"):
        tuned(replace(WISH, choice=replace(TOY, epochs=2)), out)
    tuned(replace(WISH, budget=Budget(18, "runs")), out)
    assert len(facts(out)["tries"]) > before


def test_only_published_tries_nothing_else(tmp_path: Path) -> None:
    methods = ("kd", "dkd", "dkd+reweighted", "gdkd", "kd+dot")
    _, text = tuned(replace(WISH, only_published=True, methods=methods), tmp_path)
    tries = facts(tmp_path)["tries"]
    assert [t["label"] for t in tries] == ["kd", "dkd", "gdkd", "kd+dot"]
    assert [t["uncontrolled"] for t in tries] == [False] * 3 + [True]
    assert "Without its control: kd+dot." in (tmp_path / "tune.html").read_text("utf-8")
    assert ("Without its control" in text) is (facts(tmp_path)["arms"][0]["label"] == "kd+dot")


def test_a_time_budget_keeps_back_what_the_confirmation_takes(tmp_path: Path) -> None:
    store = Store(tmp_path, {})
    with store.spending("search 0.0 first", 0.5):
        pass
    store.study.set_user_attr("ledger", {"search 0.0 first": [0.5, 5.0], "teacher": [0.0, 20.0]})
    search = search_module.Search(
        store, tmp_path, drafts(TOY, None), 3, Budget(400, "seconds"), 5, [], [], 0, quiet(), Options(), 1
    )
    assert search.per_run == 10
    assert search.plan() == divided((400 - 2 * 20) / 10, 5)
    end = search.deadline().deadline
    assert end is not None
    left = end - search_module.deadline(0.0)
    assert left == pytest.approx(400 - search.plan().kept * 10 - 20, abs=2)


@pytest.mark.parametrize("runs", [10, 23.5, 120])
def test_a_plan_spends_no_more_than_there_is(runs: float) -> None:
    plan = divided(runs, 5)
    assert plan.search + plan.kept == pytest.approx(runs)
    ladder = rungs(30)
    size = largest(plan.search, 99, ladder)
    assert price(size, ladder) <= plan.search < price(size + 1, ladder) or size == 99


@pytest.mark.parametrize("name", WEIGHTS)
def test_every_corner_of_the_space_can_be_built(name: str) -> None:
    import optuna

    draft = drafts(replace(TOY, validation=True), Network("convnet_4_8"))
    study = optuna.create_study()
    for wrapper, way in itertools.product(fitting(name), DIRECTIONS):
        fixed = {"method": name, wrapper_axis(name): wrapper, "weight": 2.0, "target": 0.5, "temperature": 2.0}
        study.enqueue_trial(fixed | {"direction": way, "rate": 0.5})
        setting = suggested(study.ask(), draft, [name])
        assert setting.run(draft, 0).optimizer.lr == pytest.approx(0.025)


def test_a_search_never_runs_out_of_proposals(tmp_path: Path) -> None:
    draft, random = drafts(replace(TOY, validation=True), Network("convnet_4_8")), Random(0)
    store, names = Store(tmp_path, {}), list(WEIGHTS)
    store.add_usual([Setting(name) for name in WEIGHTS], draft, names)
    for index in range(len(WEIGHTS), 45):
        for student in store.tried()[-18:]:
            if not student.scores:
                store.report(student, 1, random.random(), None)
                store.close(student, 1)
        store.propose(index, 1, draft, names, seed=1)
    assert len(store.tried()) == 45
    assert len(store.study.get_trials(deepcopy=False)) == 45  # none was thrown away


def effect(method: Method) -> list[object]:
    """What a method makes of a few rows early and late in a run, and the momenta that carry it into the weights."""
    z = torch.randn(4, 40, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    target = torch.arange(40) % 20
    for n in range(40):
        z[1::2, n, : 1 + n % 7] += 5  # the teacher considers one class to seven
    lg, found = Logits(z[0], z[1], target, strong=Logits(z[2], z[3], target)), []
    for epoch in (1, 3, 40):
        losses = method.stream_losses(lg, Progress(epoch=epoch, epochs=50), merge=False)
        found.append({name: round(loss.item(), 9) for name, loss in losses.items()})
    return [*found, dict(method.momenta(0.9, merge=False)), method.update]


@pytest.mark.parametrize("name", WEIGHTS)
def test_every_wrapper_of_the_space_changes_the_method_that_it_fits(name: str) -> None:
    plain = effect(MethodSpec(name).build())
    for wrapper in AROUND[1:]:
        try:
            wrapped = MethodSpec.parse(f"{name}+{wrapper}").build()
        except ValueError:
            continue
        assert effect(wrapped) != plain, wrapper


def test_every_published_student_stands_once_and_deepkd_as_compare_would_train_it() -> None:
    choice = Choice("cifar100-16px")  # whose comparison names dkd's own beta
    settings = published(choice, quiet())
    made = [effect(drafted(choice, s.spec).method.build()) for s in settings]
    assert [s.method for n, s in enumerate(settings) if made[n] in made[:n]] == []
    assert [s.method for s in settings[:4]] == ["kd", "dkd", "gdkd(w1=2, w2=8)", "dkd(beta=8)+deepkd"]
    names = {s.method for s in settings}
    assert {"ce", "gdkd", "nkd", "dist", "dkd+dot", "dkd+lskd", "dkd+ea", "dkd(beta=8)+deepkd+reweighted"} <= names
    (deep,) = methods_of(choice, ["deepkd"], quiet())
    assert effect(drafted(choice, deep).method.build()) in made


@pytest.mark.parametrize("recipe", ["digits", "cifar100", "cifar100-16px", "vit"])
def test_methods_as_they_come_are_what_compare_would_train(recipe: str) -> None:
    choice = Choice(recipe)
    texts = ["kd", *RECIPES[recipe].methods, "deepkd"]
    compared = [str(drafted(choice, spec).method) for spec in methods_of(choice, texts, quiet())]
    tried = [str(drafted(choice, setting.spec).method) for setting in published(choice, quiet(), texts)]
    assert tried == list(dict.fromkeys(compared))


def test_a_named_method_that_is_another_one_s_student_stands_once_in_the_shortest_words() -> None:
    texts = ["dkd(beta=8)", "dkd+reweighted", "dkd", "dkd(alpha=1, beta=8.0)+dot+reweighted", "dkd+dot"]
    named = [s.method for s in published(Choice("cifar100-16px"), quiet(), texts)]
    assert named == ["kd", "dkd", "dkd(alpha=1, beta=8.0)+dot+reweighted", "dkd+dot"]


def test_a_student_in_streams_is_controlled_by_its_own_weights_and_rate_alone() -> None:
    draft = drafts(Choice("cifar100-16px"), Network("vgg8"))
    texts = ["kd", "kd+dot", "dkd+deepkd", "dkd(beta=8)+deepkd+reweighted", "dkd(beta=2)+deepkd"]
    memory = [Setting("gdkd+deepkd"), Setting("gdkd+deepkd(normalize_gain=True)")]
    slow = Setting("dkd+deepkd", 0.5)
    settings = [*map(Setting, texts), *memory, slow]
    assert uncontrolled(settings, draft) == [Setting("kd+dot"), Setting("dkd(beta=2)+deepkd"), slow]


def test_a_fault_is_said_and_kept(tmp_path: Path) -> None:
    from fractionate.runs.stop import Stop

    broken = replace(toy(), student=Network("no_such_network"))
    event = train_rung(0, Job("x", broken, tmp_path / "x", 1), Options(), lambda event: None, Stop())
    assert event.done
    assert event.score is None
    assert "no_such_network" in (why_failed(tmp_path / "x") or "")


@pytest.fixture
def no_optuna(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec

    def without(name: str, *rest: str) -> object:
        return None if name == "optuna" else find(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", without)


@pytest.mark.usefixtures("no_optuna")
def test_a_missing_package_is_one_line_that_names_the_extra(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "digits"]) == 2
    said = capsys.readouterr().err.strip()
    assert "fractionate[tune]" in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["digits", "--budget", "soon"], "--budget is a time (20m, 2h) or a whole number of runs"),
        (["digits", "--budget", "2.5"], "--budget is a time (20m, 2h) or a whole number of runs (40), got '2.5'"),
        (["digits", "--budget", "0"], "above 0"),
        (["digits", "seed=3"], "tune decides seed itself"),
        (["--budget", "3"], "name one recipe"),
        (["digits", "--seeds", "1"], "--seeds must be at least 2"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    words: list[str], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tune", *words, "--out", str(tmp_path / "x")]) == 2
    said = capsys.readouterr().err.strip()
    assert named in said
    assert "\n" not in said


def test_a_search_in_which_nothing_was_compared_yet_makes_room_for_other_settings(tmp_path: Path) -> None:
    draft = drafts(replace(TOY, validation=True), Network("convnet_4_8"))
    (first := tmp_path / "search" / "student-0000").mkdir(parents=True)
    Store(tmp_path, {"methods": ["kd"]}).add_usual([Setting("kd")], draft, ["kd"])
    again = Store(tmp_path, {"methods": ["dkd"]})
    assert again.tried() == []
    assert not first.exists()
    again.add_usual([Setting("kd")], draft, ["dkd"])
    again.open_bracket(1)
    with pytest.raises(ValueError, match=r"holds a search with other settings \(methods\)"):
        Store(tmp_path, {"methods": ["kd"]})
    assert len(Store(tmp_path, {"methods": ["dkd"]}).tried()) == 1


@pytest.mark.parametrize("command", ["tune", "compare"])
def test_the_page_of_a_study_is_not_replaced(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "study.json").write_text("{}")
    assert main([command, "digits", "--out", str(tmp_path)]) == 2
    assert "holds a study (study.json), whose page this would replace" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["study.json"]


def test_the_page_of_a_search_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tune.sqlite3").touch()
    for words in (["study", "delta"], ["compare", "digits"]):
        assert main([*words, "--out", str(tmp_path)]) == 2
        assert "holds a search (tune.sqlite3)" in capsys.readouterr().err


def test_the_mean_of_all_seeds_ranks_finalists() -> None:
    assert Try("kd", True, 64.0, 3, 1.0, True, more=(65.0,)).mean == 64.5
    assert Try("kd", True, 64.0, 3, 1.0, True).mean is None


def test_a_budget_that_is_too_small_says_what_is_enough(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="11 runs of 3 epochs are the least"):
        tuned(replace(WISH, budget=Budget(5, "runs"), only_published=True), tmp_path)
    assert not list(tmp_path.rglob("config.yaml")), "a teacher was trained before the budget was looked at"


@pytest.mark.parametrize(
    ("words", "says"), [(("--budget", "3"), "is too small"), (("evaluate_every=0",), "evaluate_every")]
)
def test_a_search_that_is_refused_leaves_nothing_in_the_way_of_the_next(
    words: tuple[str, ...], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tune", "digits", *words, "--epochs", "1", "--out", str(tmp_path / "t")]) == 2
    assert says in capsys.readouterr().err
    assert not list((tmp_path / "t").glob("*.sqlite3"))
