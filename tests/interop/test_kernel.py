"""The C kernel by itself: sanitizers, secrets that decide nothing, keys that don't stay, ARM."""

import platform
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from lightning_proxy.transport.frame import kernel_names
from tests.interop.lab.build import home

NATIVE = Path(__file__).parent.parent / "native"
KERNEL = NATIVE.parent.parent / "src/lightning_proxy/transport/kernel"
AARCH64 = "/usr/aarch64-linux-gnu"

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="the cross-compiler and the checkers are of x86-64"
)

Compile = Callable[..., Path]


@pytest.fixture
def compiled(tmp_path: Path) -> Compile:
    """Compiles a program of tests/native with the kernel's sources; warnings are errors."""

    def compiled(name: str, compiler: str, *flags: str) -> Path:
        program = tmp_path / f"{name}-{compiler}"
        sources = [NATIVE / f"{name}.c", *sorted(KERNEL.glob("*.c"))]
        common = ("-std=c11", "-g", "-Wall", "-Wextra", "-Werror", f"-I{KERNEL}", f"-I{NATIVE}")
        path = compiler if compiler == "gcc" else checker(compiler)
        subprocess.run([path, *common, *flags, *sources, "-o", program], check=True)
        return program

    return compiled


def checker(name: str) -> Path:
    return (home("checkers") / name).resolve()


def run(*argv: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "flags",
    [
        ("gcc", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
        ("clang-19", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
    ],
    ids=lambda flags: flags[0],
)
def test_every_kernel_agrees_with_the_scalar_one_under_sanitizers(
    compiled: Compile, flags: tuple[str, ...]
) -> None:
    done = run(compiled("kernel_test", *flags))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split() == kernel_names()


def test_neon_agrees_with_the_scalar_kernel(compiled: Compile) -> None:
    program = compiled("kernel_test", "aarch64-linux-gnu-gcc", "-O3")
    done = run(checker("qemu-aarch64"), "-L", AARCH64, program)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split() == ["neon", "scalar"]


def test_no_branch_or_address_depends_on_a_secret(compiled: Compile) -> None:
    """MemorySanitizer follows undefined bytes through all instructions, AVX-512's too."""
    program = compiled(
        "constant_time", "clang-19", "-O3", "-fsanitize=memory", "-DLP_CHECK_SECRETS"
    )
    done = run(program)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split() == kernel_names()
    for name in kernel_names():
        control = run(program, name)
        assert control.returncode != 0, f"the checker lost the key's trace in {name}"
        assert "use-of-uninitialized-value" in control.stderr


def test_no_branch_or_address_depends_on_a_secret_as_gcc_compiles_it(compiled: Compile) -> None:
    """Valgrind checks the machine code that ships, for what it knows: up to AVX2."""
    program = compiled("constant_time", "gcc", "-O3", "-DLP_CHECK_SECRETS")
    valgrind = (checker("valgrind"), "--quiet", "--error-exitcode=9", program)
    done = run(*valgrind)
    assert done.returncode == 0, done.stdout + done.stderr
    seen = done.stdout.split()
    assert {"sse2", "scalar"} <= set(seen) <= set(kernel_names())
    for name in seen:
        assert run(*valgrind, name).returncode == 9, f"valgrind lost the key's trace in {name}"


def test_no_key_stays_on_the_stack(compiled: Compile) -> None:
    done = run(compiled("stack_test", "gcc", "-O3"))
    assert done.returncode == 0, done.stdout + done.stderr
