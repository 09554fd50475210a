"""The C kernels of the fused split, compiled once by the user's own compiler and kept in the cache folder.

Nothing of torch is included, so that takes about a second. Instructions are those that torch found on this processor,
and the file's name says which, so a home folder may be shared by different machines. It also holds a digest of the
content, so that a file which was cut or overwritten is not loaded but built again. Where there is no compiler,
or FRACTIONATE_KERNEL is "off", the losses take their path through torch; :func:`state` says which and why.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import stat
import subprocess
import tempfile
import warnings
from pathlib import Path

import torch

from .._files import CACHE, cache_folder

SOURCES = tuple(Path(__file__).with_name(name) for name in ("split.c", "directed.c", "rows.h"))
PLAIN = ("-O2", "-fPIC", "-shared")
# No -ffast-math: NaN and infinity must come through. That a comparison with NaN raises no signal is promised, without
# which loops that compare cannot use vectors.
FAST = ("-O3", "-fPIC", "-shared", "-fopenmp-simd", "-fno-trapping-math", "-fno-math-errno")
# What torch asks of a processor before it runs its own kernels of that name.
INSTRUCTIONS = {
    "AVX2": ("-mavx2", "-mfma", "-mf16c"),
    "AVX512": ("-mavx2", "-mfma", "-mf16c", "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq"),
}
SECONDS = 120  # a compiler that takes longer than this hangs
SWITCH, COMPILER = "FRACTIONATE_KERNEL", "CC"


class Unusable(Exception):
    """Why the kernels cannot be used.

    Args:
        reason: for people.
        loud: whether something is broken, rather than absent or switched off.
    """

    def __init__(self, reason: str, loud: bool = True) -> None:
        super().__init__(reason)
        self.loud = loud


def library() -> ctypes.CDLL | None:
    """The compiled kernels; ``None`` where they cannot be used. Tried once, with one warning if something is broken."""
    return _tried()[0]


def state() -> str:
    """Which kernels compute the losses on a CPU, and why."""
    return _tried()[1]


@functools.cache
def _tried() -> tuple[ctypes.CDLL | None, str]:
    try:
        path = built()
        return loaded(path), f"compiled kernels, {path}"
    except Unusable as error:
        if error.loud:
            warnings.warn(
                f"fractionate: no compiled kernels for the losses, which take the slower torch path: {error} "
                f"({SWITCH}=off silences this)",
                RuntimeWarning,
                stacklevel=2,
            )
        return None, f"torch operations: {error}"


def built() -> Path:
    """The library's file in the cache folder, compiled if it is not there yet.

    Raises:
        Unusable: it is switched off, there is no compiler, it fails, or the folder cannot be trusted or written.
    """
    switch = os.environ.get(SWITCH, "on")
    if switch not in ("on", "off"):
        raise Unusable(f"{SWITCH} must be on or off, got {switch!r}")
    if switch == "off":
        raise Unusable(f"{SWITCH}=off", loud=False)
    if os.name != "posix":
        raise Unusable(f"they are built on Linux and macOS, not on {platform.system()}", loud=False)
    fast = (*FAST, *INSTRUCTIONS.get(torch.backends.cpu.get_cpu_capability(), ()))
    compiler = shlex.split(os.environ.get(COMPILER, "")) or [shutil.which("cc") or shutil.which("gcc") or ""]
    machine = "\n".join([*compiler, *fast, *PLAIN, platform.system(), platform.machine()])
    code = b"".join(source.read_bytes() for source in SOURCES)
    key = hashlib.sha256(code + machine.encode()).hexdigest()[:24]
    folder = trusted_folder()
    for path in sorted(folder.glob(f"split-{key}-*.so")):
        if _whole(path):
            return path
        path.unlink(missing_ok=True)
    if not compiler[0]:
        raise Unusable(f"no C compiler found (cc, gcc; {COMPILER} names another)", loud=False)
    try:
        return _compile([*compiler, *fast], folder, key)
    except Unusable:  # a compiler that does not know these options
        return _compile([*compiler, *PLAIN], folder, key)


def trusted_folder() -> Path:
    """A folder of this user in the cache, which nobody else can write to."""
    try:
        cache = cache_folder()
    except OSError as error:
        raise Unusable(str(error)) from None
    folder = cache / f"kernels-{os.getuid()}"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise Unusable(f"cannot make the folder {folder} ({error.strerror}); {CACHE} names another place") from None
    _trust(folder)
    return folder


def loaded(path: Path) -> ctypes.CDLL:
    """The library, its functions declared.

    Raises:
        Unusable: others can write the file, or it is no library.
    """
    _trust(path)
    try:
        code = ctypes.CDLL(str(path))
        for name in ("read_rows", "write_rows", "mean_rows", "add_rows", "direct_rows"):
            getattr(code, name).argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int64, ctypes.c_int64)
    except (OSError, AttributeError) as error:
        raise Unusable(f"{path} cannot be loaded ({error}); delete it") from None
    return code


def _trust(path: Path) -> None:
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise Unusable(f"others can write to {path}, so it is not loaded; delete it, or name another place by {CACHE}")


def _whole(path: Path) -> bool:
    """Whether the file holds what was compiled: a library that was cut ends the process that loads it."""
    try:
        _trust(path)
        return path.stem.rpartition("-")[2] == _digest(path)
    except OSError:  # taken away, or unreadable
        return False


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:24]


def _compile(command: list[str], folder: Path, key: str) -> Path:
    """Under a name of its own, then renamed: processes that do the same at the same time do not meet."""
    handle, name = tempfile.mkstemp(suffix=".so", dir=folder)
    os.close(handle)
    try:
        done = subprocess.run(
            [*command, *(str(source) for source in SOURCES if source.suffix == ".c"), "-o", name, "-lm"],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode:
            said = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip()[:200])
            raise Unusable(f"{command[0]} failed with {done.returncode}: {said}")
        os.chmod(name, 0o700)
        path = folder / f"split-{key}-{_digest(Path(name))}.so"
        os.replace(name, path)
        return path
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unusable(f"{command[0]} could not compile them: {error}") from None
    finally:
        Path(name).unlink(missing_ok=True)
