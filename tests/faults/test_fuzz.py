"""Whatever lies in a file, the answer is a ValueError with a message, never another error."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fractionate.cli import _parse
from fractionate.commands import COMMANDS
from fractionate.commands.table import FLAGS
from fractionate.config.files import from_yaml, override, to_plain
from fractionate.config.method import MethodSpec
from fractionate.report import read_runs
from fractionate.runs.checkpoint import read_checkpoint, sealed
from fractionate.runs.folder import RunFolder
from tests.faults.bench import ready
from tests.train.runs import tiny

pytestmark = pytest.mark.faults

FEW = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=6,
)
PLAIN = to_plain(tiny("ce"))
FIELDS = st.sampled_from(
    [*PLAIN, *(f"{a}.{b}" for a, v in PLAIN.items() if isinstance(v, dict) for b in v), "method.x.y"]
)
# A few bytes put somewhere, and a piece cut out.
DAMAGE = st.tuples(st.floats(0, 1), st.binary(max_size=6), st.integers(0, 40))


def damaged(content: bytes, damage: tuple[float, bytes, int]) -> bytes:
    where, put, cut = damage
    at = int(where * len(content))
    return content[:at] + put + content[at + cut :]


def readable(read: Any, *args: Any) -> None:
    """It works, or says in words why not."""
    said = "it works"
    try:
        read(*args)
    except ValueError as error:
        said = str(error).strip()
    assert said


@FEW
@given(content=st.one_of(VALUES, st.dictionaries(st.sampled_from([*PLAIN]), VALUES, max_size=6)))
def test_any_yaml_is_a_config_or_a_message(content: Any) -> None:
    readable(from_yaml, yaml.safe_dump(content))


@FEW
@given(text=st.text(max_size=60))
def test_any_text_is_a_config_or_a_message(text: str) -> None:
    readable(from_yaml, text)


@FEW
@given(damage=DAMAGE)
def test_a_damaged_config_is_a_config_or_a_message(damage: tuple[float, bytes, int]) -> None:
    text = yaml.safe_dump(PLAIN).encode()
    readable(lambda: from_yaml(damaged(text, damage).decode(errors="replace")))


@FEW
@given(field=FIELDS, value=st.one_of(SCALARS.map(str), st.text(max_size=12)))
def test_any_field_and_value_is_taken_or_refused_in_words(field: str, value: str) -> None:
    readable(override, tiny("ce"), [f"{field}={value}"])


@FEW
@given(text=st.one_of(st.text(max_size=30), st.text(alphabet="kdotepg()=+,.1 -'[]", max_size=30)))
def test_any_text_is_a_method_or_a_message(text: str) -> None:
    readable(lambda: MethodSpec.parse(text).build())


@FEW
@given(damage=DAMAGE, seal=st.booleans())
def test_a_damaged_checkpoint_is_refused_in_words(damage: tuple[float, bytes, int], seal: bool, tmp_path: Path) -> None:
    content = (ready("whole") / "last.ckpt").read_bytes()
    broken = damaged(content[: -len("sha256:") - 64], damage)  # with a checksum that fits, the rest must hold
    (tmp_path / "a.ckpt").write_bytes(sealed(broken) if seal else damaged(content, damage))
    readable(read_checkpoint, tmp_path / "a.ckpt")


@FEW
@given(content=VALUES)
def test_a_checkpoint_of_anything_is_refused_in_words(content: Any, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    (tmp_path / "a.ckpt").write_bytes(buffer.getvalue())
    with pytest.raises(ValueError, match="cannot go on from"):
        read_checkpoint(tmp_path / "a.ckpt")


@FEW
@given(
    name=st.sampled_from(["metrics.jsonl", "summary.json", "config.yaml"]),
    damage=DAMAGE,
)
def test_a_damaged_run_folder_is_read_or_refused_in_words(
    name: str, damage: tuple[float, bytes, int], tmp_path: Path
) -> None:
    for file in ("metrics.jsonl", "summary.json", "config.yaml"):
        content = (ready("whole") / file).read_bytes()
        (tmp_path / file).write_bytes(damaged(content, damage) if file == name else content)
    readable(read_runs, [tmp_path])
    readable(RunFolder(tmp_path).config)
    readable(RunFolder(tmp_path).summary)
    RunFolder(tmp_path).metrics()  # stops at the first line that is broken


@FEW
@given(rows=st.lists(VALUES, max_size=4), summary=VALUES)
def test_any_json_in_a_run_folder_is_read_or_refused_in_words(rows: list[Any], summary: Any, tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(summary))
    readable(read_runs, [tmp_path])
    readable(RunFolder(tmp_path).config)
    RunFolder(tmp_path).metrics()


@FEW
@given(key=st.sampled_from(["last_top1", "best_epoch", "calibration", "streams", "seconds", "method"]), value=VALUES)
def test_a_summary_with_a_wrong_value_is_read_or_refused_in_words(key: str, value: Any, tmp_path: Path) -> None:
    for file in ("metrics.jsonl", "config.yaml"):
        (tmp_path / file).write_bytes((ready("whole") / file).read_bytes())
    facts = json.loads((ready("whole") / "summary.json").read_text())
    (tmp_path / "summary.json").write_text(json.dumps(facts | {key: value}))
    readable(read_runs, [tmp_path])


WORDS = st.one_of(
    st.sampled_from([*COMMANDS, *sorted(FLAGS), "--method", "--out", "--seeds", "digits", "epochs=3", "-1", "--", "="]),
    st.text(max_size=8),
)


@FEW
@given(words=st.lists(WORDS, min_size=1, max_size=6))
def test_any_words_are_a_command_or_a_message(words: list[str]) -> None:
    with contextlib.redirect_stdout(io.StringIO()):  # --help
        readable(_parse, words)
