"""The C kernels are compiled once, safely; whatever stands in the way, the losses still work and somebody is told."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

import fractionate as fr
from fractionate.kernels import c_library
from tests import cases
from tests.asserts import assert_equal

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the kernels are built on Linux and macOS")
needs_compiler = pytest.mark.skipif(not (shutil.which("cc") or shutil.which("gcc")), reason="no C compiler")


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """An empty cache, and no memory of an earlier attempt."""
    for name in (c_library.SWITCH, c_library.COMPILER):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(c_library.CACHE, str(tmp_path / "cache"))
    c_library._tried.cache_clear()
    yield tmp_path / "cache"
    c_library._tried.cache_clear()


def compiler(folder: Path, script: str) -> str:
    """A compiler made of a shell script."""
    path = folder / "compiler"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    return str(path)


def assert_losses_work() -> None:
    lg = cases.cast(cases.easy(), torch.float32)
    one, other = (fr.split_kl(lg.student, lg.teacher, fr.by_target(lg), 4.0, fused=f) for f in (None, False))
    assert_equal(one.within, other.within, rtol=1e-5)


@needs_compiler
def test_it_is_compiled_once_into_a_private_folder(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert c_library.library() is not None
    (folder,) = cache.iterdir()
    (file,) = folder.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert c_library.state() == f"compiled kernels, {file}"
    monkeypatch.setattr(c_library, "_compile", lambda *arguments: pytest.fail("compiled again"))
    c_library._tried.cache_clear()
    assert c_library.library() is not None


@needs_compiler
@pytest.mark.parametrize("name", ["SOURCES", "FAST", c_library.COMPILER, "instructions"])
def test_another_source_option_compiler_or_processor_gets_a_file_of_its_own(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = c_library.built()
    if name == "SOURCES":
        copies = tuple(tmp_path / source.name for source in c_library.SOURCES)
        for copy, source in zip(copies, c_library.SOURCES, strict=True):
            copy.write_text(source.read_text() + "/* changed */\n")
        monkeypatch.setattr(c_library, name, copies)
    elif name == "FAST":
        monkeypatch.setattr(c_library, name, ("-O1", *c_library.FAST))
    elif name == "instructions":
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT" if INSTRUCTED else "AVX2")
    else:
        monkeypatch.setenv(name, compiler(tmp_path, 'exec cc "$@"'))
    assert c_library.built() != before


INSTRUCTED = torch.backends.cpu.get_cpu_capability() in c_library.INSTRUCTIONS


def test_switched_off_it_is_silent_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(c_library.SWITCH, "off")
    assert c_library.library() is None
    assert c_library.state() == "torch operations: FRACTIONATE_KERNEL=off"
    assert_losses_work()


def test_without_a_compiler_torch_does_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert c_library.library() is None
    assert "no C compiler found" in c_library.state()
    assert_losses_work()


BROKEN = {
    "fails": ("echo 'split.c:1: error: no headers' >&2; exit 1", "compiler failed with 1: split.c:1: error: no head"),
    "is no program": ("", r"could not compile them|cannot be loaded"),
    "writes nonsense": ('while [ "$1" != -o ]; do shift; done; echo nonsense > "$2"', "cannot be loaded .* delete it"),
}


@pytest.mark.parametrize(("script", "message"), BROKEN.values(), ids=BROKEN)
def test_a_compiler_that_is_broken_is_reported_once(
    script: str, message: str, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(c_library.COMPILER, compiler(tmp_path, script) if script else str(tmp_path / "nothing"))
    with pytest.warns(RuntimeWarning, match=f"slower torch path: .*({message})") as told:
        assert c_library.library() is None
    assert "\n" not in str(told[0].message)
    assert_losses_work()  # no second warning: warnings of the package are errors in the tests
    assert list(cache.glob("*/tmp*")) == []


@needs_compiler
def test_a_compiler_that_knows_no_fast_options_gets_plain_ones(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = 'for x in "$@"; do [ "$x" = -fopenmp-simd ] && exit 1; done; exec cc "$@"'
    monkeypatch.setenv(c_library.COMPILER, compiler(tmp_path, script))
    assert c_library.library() is not None
    assert_losses_work()


def test_a_misspelled_switch_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(c_library.SWITCH, "of")
    with pytest.warns(RuntimeWarning, match="FRACTIONATE_KERNEL must be on or off, got 'of'"):
        assert c_library.library() is None


@needs_compiler
@pytest.mark.parametrize("what", ["folder", "file", "link"])
def test_what_others_could_have_written_is_not_loaded(what: str, tmp_path: Path) -> None:
    file = c_library.built()
    if what == "link":
        file.parent.rename(tmp_path / "elsewhere")
        file.parent.symlink_to(tmp_path / "elsewhere")
    else:
        (file if what == "file" else file.parent).chmod(0o777)
    with pytest.warns(RuntimeWarning, match="others can write to .* is not loaded"):
        assert c_library.library() is None
    assert_losses_work()


def test_a_cache_that_cannot_be_written_is_reported(cache: Path) -> None:
    cache.write_text("a file")
    with pytest.warns(RuntimeWarning, match="cannot make the folder .*; FRACTIONATE_CACHE names another place"):
        assert c_library.library() is None


DAMAGE = {
    "cut": lambda content: content[: len(content) // 2],
    "emptied": lambda content: b"",
    "zeroed": lambda content: bytes(len(content)),
    "one bit flipped": lambda content: content[:5000] + bytes([content[5000] ^ 1]) + content[5001:],
    "a text": lambda content: b"not a library",
}


@needs_compiler
@pytest.mark.faults
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_library_is_built_again(damage: Callable[[bytes], bytes], cache: Path) -> None:
    """In a process of its own: loading a cut library ends the process."""
    first = c_library.built()
    whole = first.read_bytes()
    first.write_bytes(damage(whole))
    code = "from fractionate.kernels import c_library; assert c_library.library() is not None, c_library.state()"
    env = os.environ | {"PYTHONPATH": str(c_library.SOURCES[0].parents[2])}
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    (file,) = next(cache.iterdir()).iterdir()
    assert file.read_bytes() == whole


@needs_compiler
def test_processes_that_compile_at_the_same_time_do_not_meet(cache: Path) -> None:
    code = "from fractionate.kernels import c_library; assert c_library.library() is not None"
    env = os.environ | {"PYTHONPATH": str(c_library.SOURCES[0].parents[2])}
    running = [subprocess.Popen([sys.executable, "-c", code], env=env) for _ in range(3)]
    assert [each.wait(timeout=300) for each in running] == [0, 0, 0]
    assert len(list(cache.rglob("*.so"))) == 1
