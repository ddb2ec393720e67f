"""Builds every real peer once, into a cache: ``python -m tests.interop.lab.build``.

Each component lives in a folder named by the hash of its recipe, so a second run only looks. A
build happens in a temporary folder that is renamed when all went well.
"""

import argparse
import contextlib
import fcntl
import hashlib
import inspect
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent

LND_TAGS = (
    "integration dev autopilotrpc chainrpc invoicesrpc peersrpc routerrpc signrpc walletrpc "
    "watchtowerrpc wtclientrpc"
)
#: lnd looks each 10 to 60 minutes whether a channel of its own has to pay another feerate, and has
#: no option for it. A test can't wait so long: this lnd looks each 10 to 20 seconds.
LND_TIMERS = {
    "DefaultMinLinkFeeUpdateTimeout = 10 * time.Minute": (
        "DefaultMinLinkFeeUpdateTimeout = 10 * time.Second"
    ),
    "DefaultMaxLinkFeeUpdateTimeout = 60 * time.Minute": (
        "DefaultMaxLinkFeeUpdateTimeout = 20 * time.Second"
    ),
}
BITCOIND_LIBRARIES = ("libboost-dev", "libevent-dev")
# A node without wallet, GUI or tools; optimized as little as keeps it quick enough on regtest.
BITCOIND_OPTIONS = {
    "CMAKE_BUILD_TYPE": "None",
    "CMAKE_CXX_FLAGS": "-O1",
    "BUILD_DAEMON": "ON",
    "BUILD_BITCOIN_BIN": "OFF",
    "BUILD_CLI": "OFF",
    "BUILD_TX": "OFF",
    "BUILD_UTIL": "OFF",
    "BUILD_TESTS": "OFF",
    "BUILD_BENCH": "OFF",
    "BUILD_GUI": "OFF",
    "ENABLE_WALLET": "OFF",
    "ENABLE_IPC": "OFF",
    "ENABLE_EXTERNAL_SIGNER": "OFF",
    "WITH_ZMQ": "OFF",
    # Its data isn't among the sources.
    "WITH_EMBEDDED_ASMAP": "OFF",
}
ELECTRUM_VERSION = "4.3.4*"
# Debian 12's server, with the libraries that no other package of a usual machine brings.
POSTGRESQL_VERSION = 15
POSTGRESQL = f"usr/lib/postgresql/{POSTGRESQL_VERSION}/bin"
POSTGRESQL_PACKAGES = (f"postgresql-{POSTGRESQL_VERSION}", "libpq5")


class BuildError(Exception):
    """A component can't be had on this machine; the message says what is missing."""


def cache() -> Path:
    """The folder that holds all that was built (not created here)."""
    if chosen := os.environ.get("LIGHTNING_PROXY_LAB"):
        return Path(chosen).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).absolute() / "lightning-proxy-lab"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Workshop:
    """Runs one component's commands, keeps their output, and shows that time passes."""

    def __init__(self, name: str, recipe: Path, out: Path) -> None:
        self.name = name
        self.recipe = recipe
        self.out = out
        self.log = cache() / f"{name}.log"
        self.log.unlink(missing_ok=True)

    def run(self, *argv: str | Path, cwd: Path | None = None, **env: str) -> None:
        """Runs a command to its end; BuildError with the end of its output when it fails."""
        started = time.monotonic()
        words = [str(word) for word in argv]
        title = " ".join(Path(word).name for word in words[:3])
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                words,
                cwd=cwd or self.out,
                env=os.environ | env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            try:
                while True:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        status = process.wait(timeout=15)
                        break
                    say(f"{self.name}: {title} … {time.monotonic() - started:.0f} s")
            finally:
                process.kill()
                process.wait()
        if status != 0:
            tail = self.log.read_text(errors="replace").splitlines()[-20:]
            raise BuildError(f"{self.name}: {title} failed ({status}):\n" + "\n".join(tail))
        say(f"{self.name}: {title} done, {time.monotonic() - started:.1f} s")

    def venv(self, requirements: Path) -> None:
        """Makes a Python environment in the output folder (its ``bin/python`` survives a move)."""
        self.run(sys.executable, "-m", "venv", self.out / "venv")
        pip = (self.out / "venv/bin/python", "-m", "pip", "install", "--quiet")
        self.run(*pip, "--requirement", requirements)

    def install(self, packages: dict[str, str]) -> None:
        """Programs of the system, each with the packages that bring it, as links in the cache.

        A browser's or a compiler's libraries are the package manager's work, not the cache's.
        """
        missing = [
            name
            for program, names in packages.items()
            if shutil.which(program) is None
            for name in names.split()
        ]
        if missing:
            self.run("apt-get", "update")
            install = ("apt-get", "install", "--yes", "--no-install-recommends", *missing)
            self.run(*install, DEBIAN_FRONTEND="noninteractive")
        for program in packages:
            (self.out / program).symlink_to(shutil.which(program) or "missing")

    def unpack(self, package: str) -> None:
        """Unpacks a Debian package of this machine's release below the output folder."""
        download = ("apt-get", "download", package)
        try:
            self.run(*download)
        except BuildError:
            self.run("apt-get", "update")  # a fresh machine knows no package yet
            self.run(*download)
        for archive in self.out.glob("*.deb"):
            self.run("dpkg-deb", "-x", archive, self.out)
            archive.unlink()


def build_lnd(shop: Workshop) -> None:
    packages = (
        "github.com/btcsuite/btcd",
        "github.com/lightningnetwork/lnd/cmd/lncli",
        "github.com/lightningnetwork/lnd/cmd/lnd",
    )
    source = shop.out / "source"
    shutil.copytree(shop.recipe, source)
    lnd = impatient_lnd(shop, source)
    replaced = f"-replace=github.com/lightningnetwork/lnd={lnd}"
    shop.run("go", "mod", "edit", replaced, cwd=source)
    flags = ("-mod=readonly", "-trimpath", "-ldflags", "-s -w", "-tags", LND_TAGS)
    output = f"{shop.out}/bin/"
    shop.run("go", "build", *flags, "-o", output, *packages, cwd=source, CGO_ENABLED="0")
    shutil.rmtree(source)


def impatient_lnd(shop: Workshop, source: Path) -> Path:
    """A copy of lnd's module, as `source`'s go.mod names it, with `LND_TIMERS`."""
    name = "github.com/lightningnetwork/lnd"
    shop.run("go", "mod", "download", name, cwd=source)
    listed = subprocess.run(
        ("go", "list", "-m", "-f", "{{.Dir}}", name),
        cwd=source,
        check=True,
        capture_output=True,
        text=True,
    )
    copy = source / "lnd"
    shutil.copytree(listed.stdout.strip(), copy)
    for folder in (copy, *(path for path in copy.rglob("*") if path.is_dir())):
        folder.chmod(0o755)  # Go's own are for reading only
    link = copy / "htlcswitch/link.go"
    link.chmod(0o644)
    text = link.read_text()
    for old, new in LND_TIMERS.items():
        if text.count(old) != 1:
            raise BuildError(f"{shop.name}: link.go has no {old!r}")
        text = text.replace(old, new)
    link.write_text(text)
    return copy


def pinned(shop: Workshop, source: Path) -> None:
    """Copies a recipe for cargo, with its lock file.

    Versions and checksums are ours to pin; the registry's name is for this machine's cargo.
    """
    shutil.copytree(shop.recipe, source, ignore=shutil.ignore_patterns("Cargo.lock"))
    shop.run("cargo", "generate-lockfile", cwd=source)
    found = re.search(r'^source = "(.+)"$', (source / "Cargo.lock").read_text(), re.MULTILINE)
    if found is None:
        raise BuildError(f"{shop.name}: cargo names no registry")
    lock = (source / "Cargo.lock.in").read_text().replace("REGISTRY", found[1])
    (source / "Cargo.lock").write_text(lock)


def build_ldk(shop: Workshop) -> None:
    source = shop.out / "source"
    pinned(shop, source)
    # The target folder stays: a change to our own source then takes seconds, not minutes.
    shop.run(
        *("cargo", "install", "--locked", "--path", source, "--root", shop.out),
        *("--target-dir", cache() / "cargo-target"),
    )
    shutil.rmtree(source)


def build_bitcoind(shop: Workshop) -> None:
    libraries = (*BITCOIND_LIBRARIES, "--no-install-recommends")
    shop.run("apt-get", "update")
    shop.run("apt-get", "install", "--yes", *libraries, DEBIAN_FRONTEND="noninteractive")
    source = shop.out / "source"
    pinned(shop, source)
    shop.run("cargo", "vendor", "--locked", "--versioned-dirs", source / "vendor", cwd=source)
    (core,) = source.glob("vendor/libbitcoinkernel-sys-*/bitcoin")
    made = source / "made"
    options = [f"-D{name}={value}" for name, value in BITCOIND_OPTIONS.items()]
    shop.run("cmake", "-B", made, "-S", core, *options)
    jobs = str(os.cpu_count() or 1)
    shop.run("cmake", "--build", made, "--parallel", jobs, "--target", "bitcoind")
    shop.run("strip", made / "bin/bitcoind")
    (shop.out / "bin").mkdir()
    (made / "bin/bitcoind").rename(shop.out / "bin/bitcoind")
    shutil.rmtree(source)


def build_npm(shop: Workshop) -> None:
    for name in ("package.json", "package-lock.json"):
        shutil.copy(shop.recipe / name, shop.out)
    shop.run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")


def build_electrum(shop: Workshop) -> None:
    shop.unpack(f"python3-electrum={ELECTRUM_VERSION}")
    shop.unpack("libsecp256k1-1")
    # Electrum looks for the library beside its own modules first.
    (library,) = shop.out.glob("usr/lib/*/libsecp256k1.so.1")
    package = shop.out / "usr/lib/python3/dist-packages/electrum"
    shutil.copy(library, package / library.name)
    shop.venv(shop.recipe / "requirements.txt")


def installed_postgresql() -> str | None:
    """The folder with this machine's `initdb` and `postgres`, which Debian keeps off the PATH."""
    folders = (*sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True), None)
    found = (shutil.which("postgres", path=folder) for folder in folders)
    programs = [program for program in found if program is not None]
    return str(Path(programs[0]).resolve().parent) if programs else None


def build_postgresql(shop: Workshop) -> None:
    installed = installed_postgresql()
    if installed is None:
        for package in POSTGRESQL_PACKAGES:
            shop.unpack(package)
    (shop.out / "bin").symlink_to(installed or POSTGRESQL)


def build_pyln(shop: Workshop) -> None:
    shop.venv(shop.recipe / "requirements.txt")


def build_browser(shop: Workshop) -> None:
    shop.install({"chromium": "chromium"})


def build_checkers(shop: Workshop) -> None:
    shop.install(CHECKERS)


@dataclass(frozen=True)
class Component:
    """One thing to build: what it takes, what must be there afterwards, what its key covers."""

    name: str
    build: Callable[[Workshop], None]
    tools: dict[str, str]
    yields: tuple[str, ...]
    recipe_files: tuple[str, ...]
    inputs: tuple[object, ...] = ()

    @property
    def recipe(self) -> Path:
        return HERE / self.name

    def key(self) -> str:
        """Hashes what the result depends on: this machine, the build function, the recipe."""
        digest = hashlib.sha256()
        machine = (platform.system(), platform.machine())
        digest.update(repr((machine, inspect.getsource(self.build), self.inputs)).encode())
        files = {path for pattern in self.recipe_files for path in self.recipe.glob(pattern)}
        for path in sorted(files):
            content = path.read_bytes()
            digest.update(f"{path.relative_to(self.recipe)} {len(content)}\n".encode() + content)
        return digest.hexdigest()[:16]

    @property
    def home(self) -> Path:
        return cache() / f"{self.name}-{self.key()}"

    @property
    def is_there(self) -> bool:
        """Whether it was built, and what it is links to is there still.

        A cache may outlive the machine that a package was installed on.
        """
        return all((self.home / name).exists() for name in self.yields)

    def missing_tools(self) -> list[str]:
        return [
            f"{self.name} needs {tool}: {cure}"
            for tool, cure in self.tools.items()
            if shutil.which(tool) is None
        ]


PYTHON_PACKAGES = ("requirements.txt",)
PYTHON = (sys.base_prefix, sys.version_info[:3])
DEBIAN = "Debian 12 or a system with its packages"
#: What tests/native is compiled and run with: programs, and the packages that bring them.
CHECKERS = {
    "valgrind": "valgrind",
    "clang-19": "clang-19 libclang-rt-19-dev",
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
    "qemu-aarch64": "qemu-user",
}
COMPONENTS = (
    Component(
        "checkers",
        build_checkers,
        {"apt-get": DEBIAN},
        tuple(CHECKERS),
        (),
        tuple(CHECKERS.items()),
    ),
    Component(
        "npm",
        build_npm,
        {"node": "install Node.js 18 or newer", "npm": "install npm"},
        ("node_modules/bolt08", "node_modules/bolt02", "node_modules/@node-lightning/noise"),
        ("package*.json",),
    ),
    Component("pyln", build_pyln, {}, ("venv/bin/python",), PYTHON_PACKAGES, PYTHON),
    Component(
        "electrum",
        build_electrum,
        {"apt-get": DEBIAN, "dpkg-deb": DEBIAN},
        ("venv/bin/python", "usr/lib/python3/dist-packages/electrum/lntransport.py"),
        PYTHON_PACKAGES,
        (ELECTRUM_VERSION, *PYTHON),
    ),
    Component(
        "postgresql",
        build_postgresql,
        {} if installed_postgresql() else {"apt-get": DEBIAN, "dpkg-deb": DEBIAN},
        ("bin/initdb", "bin/postgres"),
        (),
        (POSTGRESQL_PACKAGES,),
    ),
    Component(
        "browser",
        build_browser,
        {"apt-get": DEBIAN},
        ("chromium",),
        (),
    ),
    Component(
        "ldk",
        build_ldk,
        {"cargo": "install Rust 1.85 or newer (rustup)", "cc": "install a C compiler (gcc)"},
        ("bin/ldk-node",),
        ("Cargo.*", "src/*.rs"),
    ),
    Component(
        "bitcoind",
        build_bitcoind,
        {
            "apt-get": DEBIAN,
            "cargo": "install Rust (rustup)",
            "cmake": "install CMake 3.22 or newer",
            "c++": "install a C++ compiler (g++ 12 or newer)",
        },
        ("bin/bitcoind",),
        ("Cargo.*", "none.rs"),
        (BITCOIND_LIBRARIES, tuple(BITCOIND_OPTIONS.items())),
    ),
    Component(
        "lnd",
        build_lnd,
        {"go": "install Go 1.24.11 or newer"},
        ("bin/lnd", "bin/lncli", "bin/btcd"),
        ("go.*",),
        (LND_TAGS, tuple(LND_TIMERS.items()), inspect.getsource(impatient_lnd)),
    ),
)


def home(name: str) -> Path:
    """The folder of a component that was built; BuildError when it wasn't."""
    (component,) = (component for component in COMPONENTS if component.name == name)
    if not component.is_there:
        raise BuildError(
            f"{name} is not built: run python -m tests.interop.lab.build (make interop)"
        )
    return component.home


@contextlib.contextmanager
def locked(root: Path) -> Iterator[None]:
    """Keeps two builds out of one cache."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another build is at work here: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def provide(component: Component) -> bool:
    """Builds a component unless it is there; removes what earlier recipes made. True if built."""
    target = component.home
    if component.is_there:
        return False
    if missing := component.missing_tools():
        raise BuildError("\n".join(missing))
    temporary = Path(tempfile.mkdtemp(prefix=f".{component.name}-", dir=cache()))
    try:
        temporary.chmod(0o755)  # apt-get reads it as another user
        component.build(Workshop(component.name, component.recipe, temporary))
        for name in component.yields:
            if not (temporary / name).exists():
                raise BuildError(f"{component.name}: the build made no {name}")
        shutil.rmtree(target, ignore_errors=True)
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for stale in cache().glob(f"{component.name}-*"):
        if stale != target:
            shutil.rmtree(stale)
    return True


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.interop.lab.build", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    names = [component.name for component in COMPONENTS]
    parser.add_argument("--only", choices=names, action="append", help="leave out the others")
    options = parser.parse_args()
    wanted = [item for item in COMPONENTS if not options.only or item.name in options.only]
    result: dict[str, dict[str, object]] = {}
    failures = []
    with locked(cache()):
        for component in wanted:
            started = time.monotonic()
            try:
                built = provide(component)
            except BuildError as error:
                failures.append(str(error))
                say(str(error))
                continue
            seconds = round(time.monotonic() - started, 1)
            say(f"{component.name}: {f'built in {seconds} s' if built else 'ready'}")
            path = str(component.home)
            result[component.name] = {"path": path, "built": built, "seconds": seconds}
    if options.json:
        print(json.dumps({"cache": str(cache()), "components": result, "failures": failures}))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
