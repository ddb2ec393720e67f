"""Builds the two extensions; all else that setuptools needs stands in pyproject.toml."""

from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

TRANSPORT = "src/lightning_proxy/transport"
KERNEL = f"{TRANSPORT}/kernel"
HEADERS = [str(path) for path in Path(KERNEL).glob("*.h")]
FLAGS = ["-O3", "-std=c11", "-fvisibility=hidden"]

setup(
    ext_modules=cythonize(
        [
            Extension(
                "lightning_proxy.transport.frame",
                # One source per instruction set; each guards itself by #if in C.
                sources=[f"{TRANSPORT}/frame.pyx", *sorted(map(str, Path(KERNEL).glob("*.c")))],
                include_dirs=[KERNEL],
                depends=HEADERS,
                extra_compile_args=FLAGS,
            ),
            Extension(
                "lightning_proxy.transport.peer",
                sources=[f"{TRANSPORT}/peer.pyx"],
                include_dirs=[KERNEL],
                depends=HEADERS,
                extra_compile_args=FLAGS,
            ),
        ],
        compiler_directives={
            "language_level": 3,
            "boundscheck": False,
            "wraparound": False,
            "cdivision": True,
            "embedsignature": True,
        },
    ),
)
