"""The Triton kernels compile, for GPUs that need not be there; run by test_triton.py in a process of its own."""

from __future__ import annotations

import pytest

from fractionate.kernels import triton_split


@pytest.mark.parametrize(("architecture", "dtype"), [(80, "fp32"), (90, "bf16")])
def test_kernels_compile_and_read_16_bytes_at_once(architecture: int, dtype: str) -> None:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    pointers = {"student": dtype, "teacher": dtype, "out": dtype, "index": "i64"}
    fixed = {"s_class": 1, "t_class": 1, "out_class": 1, "listed": 6, "block": 2048, "way": 2}
    every = ("_read_kernel", "_write_kernel", "_look_kernel")
    for kernel in (getattr(triton_split, name) for name in every):
        kinds, aligned = {}, {}
        for i, name in enumerate(kernel.arg_names):
            if name in fixed:
                kinds[name] = "constexpr"
            elif name in ("inverse", "of_log"):
                kinds[name] = "fp32"
            else:
                numbers = name in ("n", "c") or name.endswith("_row")
                kinds[name] = "i32" if numbers else "*" + pointers.get(name, "fp32")
                aligned[(i,)] = [["tt.divisibility", 16]]
        constants = {name: fixed[name] for name, kind in kinds.items() if kind == "constexpr"}
        source = ASTSource(kernel, signature=kinds, constexprs=constants, attrs=aligned)
        made = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options={"num_warps": 8})
        assert made.asm["cubin"]
        assert "ld.global.v4.b32" in made.asm["ptx"]
