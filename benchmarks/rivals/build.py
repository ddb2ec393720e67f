"""Builds lnd's and LDK's transports, once, into the interop lab's cache and as the lab pins them.

lnd is compiled in a copy of the lab's Go module; LDK with the versions of the lab's lock file.
"""

import re
import shutil
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.report import progress
from tests.interop.lab import build as lab

_HERE: Final = Path(__file__).parent
_LAB: Final = Path(lab.__file__).parent
#: What LDK keeps to itself and the frames benchmark calls: the file, and the text made public.
_PRIVATE: Final = (
    (
        "src/ln/mod.rs",
        "pub(crate) mod peer_channel_encryptor;",
        "#[allow(missing_docs)]\npub mod peer_channel_encryptor;",
    ),
    (
        "src/ln/peer_channel_encryptor.rs",
        "\tfn encrypt_message_with_header_0s(",
        "\tpub fn encrypt_message_with_header_0s(",
    ),
)
#: What is built: a library with the functions of rival.h, and a program that answers pings.
LIBRARY: Final = "rival.so"
PROGRAM: Final = "rival"


class RivalMissing(Exception):
    """A rival can't take part on this machine; the message says why."""


def _lnd(shop: lab.Workshop) -> None:
    module = shop.out / "module"
    shutil.copytree(_LAB / "lnd", module)
    shutil.copytree(_HERE, module / "rivals", ignore=shutil.ignore_patterns("ldk", "__pycache__"))
    flags = ("-mod=readonly", "-trimpath", "-ldflags", "-s -w")
    for output, package, cgo, mode in (
        (LIBRARY, "./rivals/lnd/frames", "1", "c-shared"),
        (PROGRAM, "./rivals/lnd/server", "0", "exe"),
    ):
        shop.run(
            *("go", "build", *flags, f"-buildmode={mode}", "-o", shop.out / output, package),
            cwd=module,
            CGO_ENABLED=cgo,
        )
    shutil.rmtree(module)


def _ldk(shop: lab.Workshop) -> None:
    workspace = shop.out / "workspace"
    shutil.copytree(shop.recipe, workspace)
    shop.run("cargo", "generate-lockfile", cwd=workspace)
    registry = re.search(r'^source = "(.+)"$', (workspace / "Cargo.lock").read_text(), re.MULTILINE)
    if registry is None:
        raise lab.BuildError("ldk: cargo names no registry")
    # cargo takes over what it needs of the lab's versions, and adds nothing but our own packages.
    pinned = (_LAB / "ldk/Cargo.lock.in").read_text().replace("REGISTRY", registry[1])
    (workspace / "Cargo.lock").write_text(pinned)
    shop.run("cargo", "vendor", "--quiet", cwd=workspace)
    source = workspace / "lightning"
    (workspace / "vendor/lightning").rename(source)
    for name, private, public in _PRIVATE:
        text = (source / name).read_text()
        if text.count(private) != 1:
            raise lab.BuildError(f"ldk: {name} has not exactly one {private!r}")
        (source / name).write_text(text.replace(private, public))
    version = tomllib.loads((source / "Cargo.toml").read_text())["package"]["version"]
    shop.run(
        *("cargo", "build", "--release", "--target-dir", workspace / "target"),
        *("--config", f'patch.crates-io.lightning.path="{source}"'),
        cwd=workspace,
        LDK_VERSION=version,
    )
    built = workspace / "target/release"
    shutil.copy(built / "libldk_frames.so", shop.out / LIBRARY)
    shutil.copy(built / "ldk-server", shop.out / PROGRAM)
    shutil.rmtree(workspace)


@dataclass(frozen=True)
class _Rival(lab.Component):
    @property
    def recipe(self) -> Path:
        return _HERE / self.name.removeprefix("rival-")


def _rival(
    name: str, build: Callable[[lab.Workshop], None], tools: dict[str, str], pins: tuple[str, ...]
) -> _Rival:
    pinned = tuple((_LAB / name / pin).read_bytes() for pin in pins)
    return _Rival(
        f"rival-{name}",
        build,
        {**tools, "cc": "install a C compiler (gcc)"},
        (LIBRARY, PROGRAM),
        ("**/*.go", "**/*.rs", "**/Cargo.toml"),
        (*pinned, (_HERE / "native/rival.h").read_bytes(), LIBRARY, PROGRAM, _PRIVATE),
    )


_RIVALS: Final = {
    "lnd brontide": _rival(
        "lnd", _lnd, {"go": "install Go 1.24.11 or newer"}, ("go.mod", "go.sum")
    ),
    "LDK": _rival(
        "ldk", _ldk, {"cargo": "install Rust 1.85 or newer (rustup)"}, ("Cargo.lock.in",)
    ),
}


def home(name: str) -> Path:
    """The folder with a rival's LIBRARY and PROGRAM, built if need be; raises `RivalMissing`."""
    rival = _RIVALS[name]
    if not rival.home.is_dir():
        progress(f"{name}: building, which takes minutes the first time")
        try:
            with lab.locked(lab.cache()):
                lab.provide(rival)
        except (lab.BuildError, OSError) as error:
            # First what failed, last why; all of it is in the lab's log.
            lines = str(error).splitlines()
            raise RivalMissing(" ".join(dict.fromkeys((lines[0], lines[-1])))) from error
    return rival.home
