"""What a budget buys and what is searched: by hand, without a search."""

from __future__ import annotations

import inspect
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fractionate.config.method import METHODS, MethodSpec
from fractionate.config.run import Monitors, Network
from fractionate.studies.chosen import Choice
from fractionate.studies.tuning.budget import Budget, Plan, divided, largest, price, rungs, surviving
from fractionate.studies.tuning.confirm import Finalist, _room, arms
from fractionate.studies.tuning.rungs import reached
from fractionate.studies.tuning.search import Search, first_size
from fractionate.studies.tuning.space import (
    RATE,
    TEMPERATURE,
    WEIGHT,
    WEIGHTS,
    Setting,
    distributions,
    drafts,
    fitting,
    rounded,
    suggested,
    tuned_methods,
    usual_point,
    wrapper_axis,
)
from fractionate.studies.tuning.store import Tried

DRAFT = drafts(Choice("digits", epochs=6, changes=["teacher.stem=small", "threads=1"]), Network("convnet_8_16"))


@pytest.mark.parametrize(
    ("text", "amount", "unit", "shown"),
    [
        ("40", 40.0, "runs", "40 runs"),
        ("90m", 5400.0, "seconds", "90.0 minutes"),
        ("2h", 7200.0, "seconds", "2.0 hours"),
    ],
)
def test_a_budget_is_a_time_or_a_number_of_runs(text: str, amount: float, unit: str, shown: str) -> None:
    found = Budget.parse(text)
    assert (found.amount, found.unit, str(found)) == (amount, unit, shown)


@pytest.mark.parametrize(
    ("text", "why"), [("x", "a time"), ("-3", "above 0"), ("1.5", "whole number"), ("0", "above 0"), ("0m", "above 0")]
)
def test_a_budget_that_is_none_is_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Budget.parse(text)


def test_a_third_goes_on_at_every_third_of_a_run() -> None:
    assert [rungs(n) for n in (1, 2, 3, 5, 30)] == [(1,), (1, 2), (1, 2, 3), (2, 4, 5), (10, 20, 30)]
    assert [surviving(n) for n in (0, 2, 3, 5, 6)] == [1, 1, 1, 1, 2]


@pytest.mark.parametrize("count", [1, 3, 4, 9, 18])
@pytest.mark.parametrize("guests", [0, 1])
@pytest.mark.parametrize("epochs", [1, 4, 30])
def test_a_bracket_costs_the_epochs_that_its_students_are_trained(count: int, guests: int, epochs: int) -> None:
    trained, alive, before = 0, count, 0
    for until in rungs(epochs):
        trained += alive * (until - before)
        alive, before = min(alive, surviving(alive) + guests), until
    assert price(count, rungs(epochs), guests) == pytest.approx(trained / epochs)
    assert largest(trained / epochs, 50, rungs(epochs), guests) >= count
    assert largest(price(count, rungs(epochs), guests) - 1e-6, count, rungs(epochs), guests) < count


@pytest.mark.parametrize(
    ("runs", "seeds", "plan"),
    [
        (10.0, 5, Plan(3.1, 0, 2)),
        (24.0, 1, Plan(13.1, 1, 2)),
        (47.9, 9, Plan(26.1, 1, 4 + 0)),
        (48.0, 3, Plan(29.65, 2, 3)),
        (1000.0, 5, Plan(974.75, 2, 5)),
    ],
)
def test_a_plan_keeps_runs_back_for_the_end(runs: float, seeds: int, plan: Plan) -> None:
    found = divided(runs, seeds)
    assert (found.repeats, found.seeds) == (plan.repeats, plan.seeds)
    assert found.search == pytest.approx(runs - 4 * plan.repeats - 3 * 1.15 * plan.seeds)
    assert (found.confirm, found.kept) == pytest.approx((3.45 * plan.seeds, 3.45 * plan.seeds + 4 * plan.repeats))


def test_the_first_bracket_takes_two_thirds_of_the_search_and_says_what_is_least() -> None:
    plan = divided(40, 5)
    size = first_size(Budget(40, "runs"), plan, 99, 6)
    assert price(size, rungs(6), 1) <= plan.search * 2 / 3 < price(size + 1, rungs(6), 1)
    assert first_size(Budget(40, "runs"), plan, 2, 6) == 2
    with pytest.raises(ValueError, match="is too small") as said:
        first_size(Budget(9, "runs"), divided(9, 5), 30, 6)
    least = int(str(said.value).partition("small: ")[2].partition(" ")[0])
    assert first_size(Budget(least, "runs"), divided(least, 2), 30, 6) >= 3
    with pytest.raises(ValueError, match="is too small"):
        first_size(Budget(least - 1, "runs"), divided(least - 1, 2), 30, 6)
    with pytest.raises(ValueError, match=f"here about {least * 7} seconds and the teachers"):
        first_size(Budget(9, "seconds"), divided(0.5, 5), 30, 6, per_run=7.0)


def test_a_setting_multiplies_the_recipe_s_rate_and_watches_nothing() -> None:
    run = Setting("dkd(beta=2)", 0.333).run(DRAFT, 5)
    assert (run.optimizer.lr, run.seed, run.monitors, run.epochs) == (0.0167, 5, Monitors(), 6)
    assert run.method.args["beta"] == 2
    assert (run.threads, run.teacher) == (1, Network("convnet_8_16"))
    assert rounded(1234.5) == 1230.0


def point(**values: Any) -> Any:
    """What proposes fixed values, and notes which were asked for."""
    asked: list[str] = []

    def categorical(name: str, choices: list[str]) -> Any:
        asked.append(name)
        assert values[name] in choices
        return values[name]

    def number(name: str, low: float, high: float, *, log: bool) -> float:
        asked.append(name)
        assert log
        assert (low, high) == {"temperature": TEMPERATURE, "rate": RATE}.get(name, WEIGHT)
        return values[name]

    return SimpleNamespace(suggest_categorical=categorical, suggest_float=number, asked=asked)


ALL = {"weight": 2.0, "target": 0.5, "temperature": 3.0, "direction": "forward", "rate": 2.0}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("method", "more", "spec"),
    [
        ("kd", {}, "kd(kd_weight=1.8, temperature=3.0)"),
        ("dkd", {}, "dkd(beta=2.0, alpha=0.5, temperature=3.0)"),
        ("gdkd", {"wrapper": "deepkd"}, "gdkd(w2=2.0, w0=0.5, w1=1.0, temperature=3.0)+deepkd"),
        ("dist", {}, "dist(beta=4.0, gamma=4.0, temperature=3.0)"),
        ("wttm", {}, "wttm(weight=2.0)"),
    ],
)
def test_a_proposal_multiplies_the_weights_of_the_recipe(method: str, more: dict[str, Any], spec: str) -> None:
    trial = point(method=method, **{wrapper_axis(method): "none", **ALL, **more})
    found = suggested(trial, DRAFT, list(WEIGHTS))
    usual = DRAFT(MethodSpec(method), 0).method
    told = MethodSpec.parse(spec)
    assert found.rate == 2.0
    assert found.spec.wrappers == told.wrappers
    assert ("target" in trial.asked) is bool(WEIGHTS[method][1])
    for names, factor in zip(WEIGHTS[method], (2.0, 0.5), strict=True):
        for name in names:
            default = usual.args.get(name, _default(method, name))
            assert found.spec.args[name] == pytest.approx(factor * default, rel=5e-3)


def _default(method: str, name: str) -> Any:
    return inspect.signature(METHODS[method]).parameters[name].default


def test_methods_as_they_come_lie_inside_of_the_space() -> None:
    axes = distributions(list(WEIGHTS))
    for method in (*WEIGHTS, "dkd+deepkd", "kd+dot", "dkd+ctkd", "crld", "rld+deepkd"):
        where = usual_point(DRAFT, method)
        name, _, wrapper = method.partition("+")
        assert bool(where) == (name in WEIGHTS and (wrapper or "none") in fitting(name))
        for axis, value in where.items():
            assert axes[axis]._contains(axes[axis].to_internal_repr(value)), (method, axis)
    assert usual_point(DRAFT, "dkd+deepkd") | {"temperature": 4.0} == {
        "method": "dkd",
        "wrapper": "deepkd",
        "weight": 1.0,
        "target": 1.0,
        "rate": 1.0,
        "temperature": 4.0,
        "direction": "forward",
    }
    assert "target" not in usual_point(DRAFT, "kd")
    assert tuned_methods([]) == list(WEIGHTS)


def tried(index: int, *, fault: str | None = None, usual: bool = False, **scores: float) -> Tried:
    found = {int(epoch.removeprefix("at")): score for epoch, score in scores.items()}
    return Tried(index, 0, Setting(f"kd(temperature={index + 1})"), usual, found, fault)


@pytest.mark.parametrize(
    ("method", "place"),
    [
        ("dkd(beta=2)+deepkd", {"wrapper": "deepkd", "weight": 0.25, "target": 1.0, "temperature": 4.0}),
        ("gdkd(w0=2, w1=2, temperature=2)", {"wrapper": "none", "weight": 1.0, "target": 2.0, "temperature": 2.0}),
        ("dkd(direction=reverse)", {"wrapper": "none", "weight": 1.0, "target": 1.0, "direction": "reverse"}),
    ],
)
def test_what_is_given_moves_a_method_along_the_axes_of_the_space(method: str, place: dict[str, Any]) -> None:
    found = usual_point(drafts(Choice("cifar100"), Network("resnet32x4")), method)
    assert place.items() <= found.items()


@pytest.mark.parametrize(
    "method",
    [
        "gdkd(w1=2)",
        "dkd(ce_weight=2)",
        "dkd+deepkd(delta=0.05)",
        "dkd+deepkd+lskd",
        "dkd(weights=auto)",
        "kd+reweighted",
    ],
)
def test_what_the_space_cannot_say_lies_outside_of_it(method: str) -> None:
    assert usual_point(drafts(Choice("cifar100"), Network("resnet32x4")), method) == {}


@pytest.mark.usefixtures("unchecked")
def test_the_best_third_goes_on_and_kd_beside_it() -> None:
    said: list[str] = []
    students = [tried(n, at2=score) for n, score in enumerate((1.0, 5.0, 9.0, 9.0, 4.0, 3.0))] + [tried(6, fault="x")]
    search: Any = SimpleNamespace(_of=lambda bracket: students, epochs=6, say=said.append)
    assert Search._ranked(search, 0, range(7), 2, said=True) == [2, 3, 0]
    assert said == ["bracket 1, 2 of 6 epochs: 7 students, 1 failed, best kd(temperature=3) 9.00; 3 go on"]
    assert Search._ranked(search, 0, [0, 4], 2, said=False) == [4, 0]
    assert Search._ranked(search, 0, [0], 2, said=False) == [0]
    assert Search._ranked(search, 0, [6], 2, said=True) == []
    assert said[1].endswith("1 students, 1 failed, none is left")
    search.epochs = 2
    Search._ranked(search, 1, [1, 2], 2, said=True)
    assert said[2] == "bracket 2, 2 of 2 epochs: 2 students, best kd(temperature=3) 9.00"


@pytest.mark.usefixtures("unchecked")
def test_what_a_run_costs_is_measured_on_those_that_count_runs() -> None:
    ledger = {"teacher": (0.0, 100.0), "search 0.0": (2.0, 8.0), "search 0.1": (1.0, 7.0), "finals": (2.0, 10.0)}
    search: Any = SimpleNamespace(store=SimpleNamespace(ledger=ledger), budget=Budget(100, "seconds"))
    per_run: Any = Search.per_run.fget  # type: ignore[attr-defined]
    spent: Any = Search.spent.fget  # type: ignore[attr-defined]
    assert (per_run(search), spent(search)) == (5.0, 3.0)
    search.budget = Budget(100, "runs")
    assert per_run(search) == 1.0


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("spent", "room"), [(80.0, True), (80.1, False)])
def test_one_more_seed_is_trained_where_it_ends_in_time(spent: float, room: bool) -> None:
    ledger = {"confirmation 1000": (3.0, 15.0), "confirmation 1001": (3.0, 25.0), "search": (1.0, 99.0)}
    search: Any = SimpleNamespace(store=SimpleNamespace(ledger=ledger, seconds=spent), budget=Budget(100.0, "seconds"))
    assert _room(search, "confirmation", 2) is room
    search.budget = Budget(1.0, "runs")
    assert _room(search, "confirmation", 2)


def test_winner_kd_and_the_best_as_it_comes_are_confirmed_each_once() -> None:
    one, two, three = (Finalist(tried(n, usual=n > 0), (1.0, 3.0)) for n in range(3))
    assert one.mean == 2.0
    assert [s.method for s in arms([one, two, three])] == ["kd(temperature=1)", "kd", "kd(temperature=2)"]
    assert [s.method for s in arms([two, three])] == ["kd(temperature=2)", "kd"]
    assert [s.method for s in arms([one])] == ["kd(temperature=1)", "kd"]


def test_what_a_student_has_reached_is_read_at_its_epoch(tmp_path: Path) -> None:
    rows = [{"epoch": e, "test_top1": 10.0 * e, "seconds": float(e), "headline": "top1"} for e in (1, 2, 3)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = [reached(tmp_path, epoch) for epoch in (1, 2, 3, 4)]
    assert [f and (f.score, f.seconds, f.headline) for f in found] == [
        (10.0, 1.0, "top1"),
        (20.0, 3.0, "top1"),
        (30.0, 6.0, "top1"),
        None,
    ]
    assert math.isfinite(found[0].score if found[0] else math.nan)
