"""C sources of the benchmarks, compiled when they are first needed and after each change."""

import ctypes
import hashlib
import shlex
import subprocess
import sysconfig
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
KERNEL = ROOT / "src/lightning_proxy/transport/kernel"
BUILD = Path(__file__).parent / ".build"
# What setup.py gives the extensions, so that our own kernel is measured as it ships.
FLAGS = ("-O3", "-std=c11", "-fvisibility=hidden", "-fPIC", "-shared", "-Wall", "-Wextra")


def library(name: str, sources: Sequence[Path], libraries: Sequence[str] = ()) -> ctypes.CDLL:
    """The shared library made of `sources`; raises `OSError` with the compiler's words."""
    digest = hashlib.sha256(" ".join((*FLAGS, *libraries)).encode())
    headers = {header for source in sources for header in source.parent.glob("*.h")}
    for path in (*sources, *sorted(headers)):
        digest.update(path.read_bytes())
    built = BUILD / f"{name}-{digest.hexdigest()[:16]}.so"
    if not built.exists():
        BUILD.mkdir(exist_ok=True)
        compiler = shlex.split(sysconfig.get_config_var("CC") or "cc")[0]
        partial = built.with_suffix(".partial")
        command = [compiler, *FLAGS, f"-I{KERNEL}", *map(str, sources), "-o", str(partial)]
        done = subprocess.run(
            [*command, *(f"-l{each}" for each in libraries)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise OSError(f"{name} does not build: {done.stderr.strip()[-400:]}")
        partial.rename(built)
    return ctypes.CDLL(str(built))
