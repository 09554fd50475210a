"""The CUDA path of the fused split: where it is taken, what happens without it, and its kernels in an interpreter."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import fractionate as fr
from fractionate import Logits
from fractionate.kernels import fused, rest, triton_split
from tests import cases
from tests.asserts import assert_equal

ROOT = Path(__file__).parents[2]


def run(*arguments: str, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=os.environ | env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return done.stdout


needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed (pip install triton)"
)


def run_tests(name: str, folder: Path, **env: str) -> None:
    """All tests of a file, in a process without shape checks: Triton compiles functions, not their wrappers.

    And without the kernels that would serve a CPU before anybody asks Triton.
    """
    arguments = ("-m", "pytest", "-x", f"tests/losses/{name}.py", "-p", "no:cacheprovider")
    switches = {"FRACTIONATE_SHAPE_CHECKS": "off", "FRACTIONATE_KERNEL": "off", "TRITON_CACHE_DIR": str(folder)}
    out = run(*arguments, **switches, **env)
    assert "passed" in out
    assert "skipped" not in out


@needs_triton
@pytest.mark.slow
def test_the_kernels_interpreted_on_cpu(tmp_path: Path) -> None:
    run_tests("triton_checks", tmp_path, TRITON_INTERPRET="1")


@needs_triton
@pytest.mark.slow
def test_the_kernels_compile(tmp_path: Path) -> None:
    if tuple(map(int, importlib.metadata.version("triton").split(".")[:2])) < (3, 3):
        pytest.skip("Triton before 3.3 takes what a kernel is compiled for in another form")
    run_tests("triton_compiles", tmp_path, TRITON_INTERPRET="0")


def test_nobody_without_a_gpu_imports_triton() -> None:
    code = """
import sys, torch
before = "triton" in sys.modules
import fractionate as fr
z = torch.randn(2, 5, requires_grad=True)
lg = fr.Logits(z, torch.randn(2, 5), torch.tensor([0, 1]))
fr.split_kl(lg.student, lg.teacher, fr.by_target(lg), fused=True).total.sum().backward()
assert z.grad is not None
print("triton" in sys.modules and not before)
"""
    assert run("-c", code, PYTHONPATH=str(ROOT / "src")).strip() == "False"


def on_cuda(dtype: torch.dtype = torch.bfloat16, listed: int = 1) -> tuple[SimpleNamespace, torch.Tensor]:
    """What the choice looks at, as if on a GPU, and the listed classes."""
    return SimpleNamespace(device=torch.device("cuda", 0), dtype=dtype), torch.zeros(2, listed, dtype=torch.int64)


@pytest.fixture(autouse=True)
def _no_memory_of_earlier_devices() -> None:
    fused.kernels.cache_clear()


def test_kernels_serve_cuda_except_float64_and_long_lists(monkeypatch: pytest.MonkeyPatch, unchecked: None) -> None:
    monkeypatch.setattr(fused, "kernels", lambda device: triton_split)
    assert fused.rest_code(torch.zeros(2, 3), None) is rest
    assert fused.rest_code(on_cuda()[0], None) is triton_split
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        assert fused.rest_code(*on_cuda(dtype)) is triton_split
    assert fused.rest_code(*on_cuda(torch.float64)) is rest
    assert fused.rest_code(*on_cuda(listed=fused.MOST_LISTED)) is triton_split
    assert fused.rest_code(*on_cuda(listed=fused.MOST_LISTED + 1)) is rest


def test_without_triton_torch_does_it(monkeypatch: pytest.MonkeyPatch, unchecked: None) -> None:
    monkeypatch.setattr(triton_split, "AVAILABLE", False)
    assert fused.rest_code(*on_cuda()) is rest


def test_a_triton_that_does_not_run_is_reported_once(monkeypatch: pytest.MonkeyPatch, unchecked: None) -> None:
    def broken(*arguments: object) -> None:
        raise RuntimeError("no C compiler")

    monkeypatch.setattr(triton_split, "AVAILABLE", True)
    monkeypatch.setattr(triton_split, "read_rest", broken)
    monkeypatch.setattr(torch, "zeros", lambda *size, device: None)
    where = torch.device("cuda", 0)
    with pytest.warns(RuntimeWarning, match="does not run on cuda:0 .RuntimeError: no C compiler.*slower torch path"):
        assert fused.kernels(where) is None
    assert fused.kernels(where) is None  # no second warning: warnings of the package are errors in the tests


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: the benchmark would measure")
def test_the_benchmark_measures_nothing_without_a_gpu() -> None:
    assert run("-m", "benchmarks.gpu_losses", "--toy", PYTHONPATH=str(ROOT / "src")) == "not measured: no GPU\n"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
@pytest.mark.parametrize("dtype", cases.LOW_PRECISION, ids=str)
def test_a_gpu_gives_what_the_cpu_gives(dtype: torch.dtype) -> None:
    lg = cases.cast(cases.easy(5, 4099, strong=False), dtype)
    found = []
    for device in ("cuda", "cpu"):
        student, teacher = (z.detach().to(device) for z in (lg.student, lg.teacher))
        here = Logits(student.requires_grad_(), teacher, lg.target.to(device))
        s = fr.split_kl(here.student, here.teacher, fr.by_top(here, 5), 4.0, fused=True)
        grad = torch.autograd.grad(s.between.sum() + s.within.sum(), here.student)[0]
        found.append([x.detach().float().cpu() for x in (s.between, s.within, s.mass, grad)])
    for a, b in zip(*found, strict=True):
        assert_equal(a, b, rtol=max(2e-5, 2 * torch.finfo(dtype).eps))
