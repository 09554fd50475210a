"""Of the processes of a run, without any: threads over a store, and what the launcher's variables mean."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.distributed as dist

from fractionate import world as world_module
from fractionate.monitors import GSNR, UpdateRms, _Block, update_rms
from fractionate.optim import StreamAdamW
from fractionate.world import APART, Wishes, World, launched, restarted, restarts, speaks, talk


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """What a process says to the other one, which answers with 7 in every place."""
    said: list[tuple[str, Any]] = []

    class Work:
        def __init__(self, x: torch.Tensor) -> None:
            self.x = x

        def wait(self) -> None:
            self.x.fill_(max(7, int(self.x)))

    def all_reduce(x: torch.Tensor, op: Any = dist.ReduceOp.SUM, group: Any = None, async_op: bool = False) -> Any:
        said.append(("reduce", x.clone()))
        if async_op:
            assert op == dist.ReduceOp.MAX
            return Work(x)
        return x.add_(7)

    def broadcast_object_list(box: list[Any], src: int, group: Any = None) -> None:
        said.append(("broadcast", list(box)))
        if box == [None, None]:  # the other one is the main process
            box[:] = [True, "theirs"]

    def broadcast(x: torch.Tensor, src: int) -> None:
        said.append(("copy", src))
        x.fill_(7)

    def all_gather_object(found: list[Any], value: Any, group: Any = None) -> None:
        found[:] = [value, 3]

    def all_gather(found: list[torch.Tensor], x: torch.Tensor) -> None:
        said.append(("gather", x.clone()))
        found[0].copy_(x)
        found[1].fill_(7)

    for one in (all_reduce, broadcast_object_list, broadcast, all_gather_object, all_gather):
        monkeypatch.setattr(dist, one.__name__, one)
    return said


def test_numbers_go_to_everybody(two: list[tuple[str, Any]]) -> None:
    both = World(0, 2)
    assert not both.alone
    assert both.sum_(torch.ones(2)).tolist() == [8.0, 8.0]
    x, y = torch.zeros(2), torch.zeros(1)
    both.copy_from_main([x, y])
    assert (x.tolist(), y.tolist()) == ([7.0, 7.0], [7.0])
    assert [name for name, _ in two] == ["reduce", "copy", "copy"]
    assert {src for name, src in two if name == "copy"} == {0}
    assert both.everyones("a") == ["a", 3]


def test_rows_of_unequal_numbers_come_back_without_what_filled_them_up(two: list[tuple[str, Any]]) -> None:
    mine = torch.arange(4.0).reshape(2, 2)
    first, second = World(0, 2).rows(mine)
    assert torch.equal(first, mine)
    assert (second.shape, second.unique().tolist()) == ((3, 2), [7.0])
    assert two[0][1].tolist() == [[0.0, 1.0], [2.0, 3.0], [0.0, 0.0]]


def test_the_main_process_works_and_the_others_hear_its_result(two: list[tuple[str, Any]]) -> None:
    assert World(0, 2).on_main(lambda: 5) == 5
    assert World(1, 2).on_main(lambda: pytest.fail("the main process does it")) == "theirs"
    assert two == [("broadcast", [True, 5]), ("broadcast", [None, None])]
    with pytest.raises(ZeroDivisionError):
        World(0, 2).on_main(lambda: 1 // 0)
    assert two[-1] == ("broadcast", [False, "ZeroDivisionError: integer division or modulo by zero"])


def test_the_others_end_with_the_main_process(two: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    def failed(box: list[Any], src: int, group: Any = None) -> None:
        assert src == 0
        box[:] = [False, "ValueError: no"]

    monkeypatch.setattr(dist, "broadcast_object_list", failed)
    with pytest.raises(world_module.Elsewhere, match="ValueError: no"):
        World(1, 2).on_main(lambda: 1)


def test_a_wish_is_agreed_on_one_step_later_and_the_largest_counts(two: list[tuple[str, Any]]) -> None:
    wishes = Wishes(World(0, 2))
    assert wishes.settle() == 0
    assert [wishes.exchange(wish) for wish in (0, 9, 1)] == [0, 7, 9]
    assert wishes.settle() == 7
    assert wishes.settle() == 0
    assert [int(x) for name, x in two if name == "reduce"] == [0, 9, 1]


def test_every_process_but_the_first_draws_numbers_of_its_own() -> None:
    drawn = []
    for rank in (0, 1, 2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            World(rank, 3).draw_apart(5)
            drawn.append(torch.initial_seed())
    assert drawn == [5, 5 + APART, 5 + 2 * APART]
    assert [World(rank, 3).main for rank in (0, 1, 2)] == [True, False, False]


@pytest.mark.parametrize(
    ("variable", "asks", "answers"),
    [
        ("WORLD_SIZE", launched, (1, 1, 1, 2)),
        ("RANK", speaks, (True, True, False, False)),
        ("TORCHELASTIC_MAX_RESTARTS", restarts, (False, False, True, True)),
        ("TORCHELASTIC_RESTART_COUNT", restarted, (False, False, True, True)),
    ],
)
def test_the_launcher_is_asked(variable: str, asks: Any, answers: tuple[Any, ...], monkeypatch: Any) -> None:
    monkeypatch.delenv(variable, raising=False)
    found = [asks()]
    for text in ("" if variable != "WORLD_SIZE" else "1", "1", "2"):
        monkeypatch.setenv(variable, text)
        found.append(asks())
    assert tuple(found) == answers
    assert talk() is None


# -- monitors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["block", "sliding"])
@pytest.mark.parametrize("steps", [1, 3, 5])
def test_a_monitor_that_is_saved_goes_on_as_if_it_had_not_been(mode: Any, steps: int) -> None:
    torch.manual_seed(0)
    given = [{"a": [torch.randn(3)], "b": [torch.randn(3)]} for _ in range(9)]
    one, two = GSNR(3, mode), GSNR(3, mode)
    for g in given[:steps]:
        one.update(g)
    two.load_state_dict(one.state_dict())
    for g in given[steps:]:
        one.update(g)
        two.update(g)
        assert one.read() == two.read()
        assert one.ended() == two.ended()
    assert set(one.read()) == {"a", "b"}
    for other in (GSNR(4, mode), GSNR(3, "block" if mode == "sliding" else "sliding")):
        other.load_state_dict(one.state_dict())
        assert other.read() == {}


def test_signal_is_corrected_for_noise_and_never_negative() -> None:
    block = _Block(torch.tensor([1.0, 0.0]))
    for g in ([3.0, 0.0], [2.0, 3.0]):
        block.add(torch.tensor(g))
    m = GSNR(3)
    for g in ([1.0, 0.0], [3.0, 0.0], [2.0, 3.0]):
        m.update({"a": [torch.tensor(g)]})
    assert (float(block.spread), block.count) == pytest.approx((8.0, 3))
    found = m.read()["a"]
    assert (found.ratio, found.signal, found.noise, found.count) == pytest.approx((5 / 4, 5 - 4 / 3, 4.0, 3))
    for g in ([1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]):
        m.update({"a": [torch.tensor(g)]})
    assert m.read()["a"].signal == 0.0


def test_the_move_of_adamw_is_measured_over_all_weights_and_per_tensor() -> None:
    p, q = torch.zeros(3), torch.zeros(1)
    optimizer = StreamAdamW([p, q], betas={"a": 0.9, "b": 0.5})
    assert update_rms(optimizer) == UpdateRms(0.0, 0.0)
    for scale in (1.0, -0.5):
        optimizer.step({name: [scale * torch.tensor([1.0, 2.0, 3.0]), torch.tensor([5.0])] for name in ("a", "b")})
    moves = list(optimizer.updates().values())
    squares = [float(u.square().sum()) for u in moves]
    found = update_rms(optimizer)
    assert found.overall == pytest.approx(math.sqrt(sum(squares) / 4), rel=1e-6)
    assert found.largest == pytest.approx(max(math.sqrt(squares[0] / 3), math.sqrt(squares[1])), rel=1e-6)
