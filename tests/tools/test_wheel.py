"""What `make wheel` finds wrong with a wheel, and which kernel it expects of a CPU."""

import subprocess
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tools.wheel import (
    ROOT,
    WheelError,
    best_kernel,
    check_files,
    check_sdist,
    check_size,
    check_stripped,
    cpu_flags,
    expected_files,
)

NAME = "lightning_proxy_server-0.1.0-cp311-cp311-manylinux_2_28_x86_64.whl"
METADATA = (
    "METADATA",
    "RECORD",
    "WHEEL",
    "entry_points.txt",
    "licenses/LICENSE",
    "top_level.txt",
)
EXTENSIONS = [
    f"lightning_proxy/transport/{name}.cpython-311-x86_64-linux-gnu.so"
    for name in ("frame", "peer")
]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A small package with all kinds of files, some of which are not for a wheel."""
    folder = tmp_path / "src"
    for name in (
        "lightning_proxy/__init__.py",
        "lightning_proxy/py.typed",
        "lightning_proxy/api/page.html",
        "lightning_proxy/transport/frame.pyi",
        "lightning_proxy/transport/frame.pyx",
        "lightning_proxy/transport/frame.pxd",
        "lightning_proxy/transport/frame.c",
        "lightning_proxy/transport/frame.cpython-311-x86_64-linux-gnu.so",
        "lightning_proxy/transport/kernel/kernel.h",
        "lightning_proxy/__pycache__/__init__.cpython-311.pyc",
        "lightning_proxy_server.egg-info/SOURCES.txt",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


FILES = [
    "lightning_proxy/__init__.py",
    "lightning_proxy/py.typed",
    "lightning_proxy/api/page.html",
    "lightning_proxy/transport/frame.pyi",
    *EXTENSIONS,
    *(f"lightning_proxy_server-0.1.0.dist-info/{name}" for name in METADATA),
]


def wheel(folder: Path, names: list[str], data: bytes = b"") -> Path:
    path = folder / NAME
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, data)
    return path


def test_a_wheel_as_it_should_be(tmp_path: Path, source: Path) -> None:
    check_files(wheel(tmp_path, FILES), source)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file(tmp_path: Path, source: Path, name: str) -> None:
    with pytest.raises(WheelError, match="lacks [^;]*" + name.partition(".")[0]):
        check_files(wheel(tmp_path, [each for each in FILES if each != name]), source)


@pytest.mark.parametrize(
    "name",
    [
        "lightning_proxy/transport/frame.pyx",
        "lightning_proxy/transport/kernel/scalar.c",
        "lightning_proxy/transport/frame.cpython-312-x86_64-linux-gnu.so",
        "lightning_proxy/transport/other.cpython-311-x86_64-linux-gnu.so",
        "lightning_proxy_server.libs/libcrypto.so",
        "stale.py",
    ],
)
def test_a_surplus_file(tmp_path: Path, source: Path, name: str) -> None:
    with pytest.raises(WheelError, match=r"lacks nothing; what it has too much: \w"):
        check_files(wheel(tmp_path, [*FILES, name]), source)


def test_the_checkouts_own_files() -> None:
    files = expected_files(ROOT / "src")
    assert {"lightning_proxy/py.typed", "lightning_proxy/transport/peer.pyi"} <= files
    assert not [name for name in files if name.endswith((".pyx", ".pxd", ".c", ".h", ".so"))]


def test_a_large_wheel(tmp_path: Path) -> None:
    check_size(wheel(tmp_path, ["small.so"], bytes(900_000)))
    with pytest.raises(WheelError, match="too many"):
        check_size(wheel(tmp_path, ["large.so"], bytes(1_500_000)))


def test_an_extension_with_symbols(tmp_path: Path) -> None:
    code, built = tmp_path / "some.c", tmp_path / "some.so"
    code.write_text("int some(void) { return 1; }\n")
    compiler = str(sysconfig.get_config_var("CC")).split()[0]
    subprocess.run([compiler, "-g", "-shared", "-fPIC", code, "-o", built], check=True)
    with pytest.raises(WheelError, match=r"frame\.so is not stripped, it has .*\.symtab"):
        check_stripped(wheel(tmp_path, ["frame.so"], built.read_bytes()))
    subprocess.run(["strip", built], check=True)
    check_stripped(wheel(tmp_path, ["frame.so"], built.read_bytes()))


def test_an_sdist_without_cythons_c(tmp_path: Path) -> None:
    for name in ("frame.pyx", "kernel.c"):
        (tmp_path / name).touch()
    check_sdist(tmp_path)
    (tmp_path / "frame.c").touch()
    with pytest.raises(WheelError, match=r"holds frame\.c$"):
        check_sdist(tmp_path)


ALL = {"avx512ifma", "avx512", "avx2", "sse2", "neon", "scalar"}
AVX2 = {"sse2", "avx", "avx2", "bmi2"}
AVX512 = AVX2 | {"avx512f", "avx512bw", "avx512dq", "avx512vl"}


@pytest.mark.parametrize(
    ("machine", "flags", "kernels", "best"),
    [
        ("x86_64", AVX512 | {"avx512ifma"}, ALL, "avx512ifma"),
        ("x86_64", AVX512, ALL, "avx512"),
        ("x86_64", AVX512 - {"avx512vl"}, ALL, "avx2"),
        ("x86_64", AVX2, ALL, "avx2"),
        ("x86_64", {"sse2"}, ALL, "sse2"),
        ("x86_64", AVX512, {"scalar"}, "scalar"),
        ("aarch64", {"fp", "asimd"}, ALL, "neon"),
        ("riscv64", {"v"}, ALL, "scalar"),
    ],
)
def test_the_best_kernel(machine: str, flags: set[str], kernels: set[str], best: str) -> None:
    assert best_kernel(machine, flags, kernels) == best


@pytest.mark.parametrize("name", ["flags\t\t", "Features\t"])
def test_cpu_flags(name: str) -> None:
    text = f"processor\t: 0\nmodel name\t: a CPU\n{name}: fpu avx2\nbugs\t: spectre_v1\n"
    assert cpu_flags(text) == {"fpu", "avx2"}
    with pytest.raises(WheelError, match="names no flags"):
        cpu_flags("processor: 0\n")
