"""A throw-away PostgreSQL server on loopback: started, stopped, crashed, and gone afterwards."""

import asyncio
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Final, Self

from sqlalchemy.ext.asyncio import create_async_engine

#: Seconds.
_PATIENCE: Final = 30.0
_LOOK: Final = 0.02
_READY: Final = b"database system is ready to accept connections"
#: PostgreSQL refuses to run as root; this user owns its folder then.
_USER: Final = "nobody"


class PostgresError(Exception):
    """The server can't run here; the message holds the end of its log."""


class PostgresServer:
    """Use as a context manager. `binaries` is the folder with `initdb` and `postgres`.

    Its one user has a password, which is in `url` and nowhere else.
    """

    def __init__(self, binaries: Path) -> None:
        self._binaries = binaries.resolve()
        self._password = secrets.token_hex(8)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        # Not below pytest's own folder: nobody else may enter that.
        self._folder = Path(tempfile.mkdtemp(prefix="lightning-proxy-postgres-"))
        try:
            self._set_up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(crash=True)
        shutil.rmtree(self._folder)

    def _set_up(self) -> None:
        self._log = self._folder / "postgres.log"
        self._data = self._folder / "data"
        password = self._folder / "password"
        password.write_text(self._password)
        self._binaries = self._reachable(self._binaries)
        if os.geteuid() == 0:
            shutil.chown(self._folder, _USER)
            shutil.chown(password, _USER)
        made = self._run(
            *("initdb", "--pgdata", str(self._data), "--username", "relay", "--encoding", "UTF8"),
            *("--auth", "scram-sha-256", "--pwfile", str(password), "--no-sync"),
        )
        if made.wait(_PATIENCE) != 0:
            raise PostgresError(f"initdb failed:\n{self._tail()}")
        password.unlink()
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        self.start()

    def _reachable(self, binaries: Path) -> Path:
        """`binaries`, or a copy of the whole installation where the server's user can't go."""
        probe = self._setpriv("test", "-x", str(binaries / "postgres"))
        if subprocess.run(probe, check=False, cwd="/").returncode == 0:
            return binaries
        copy = self._folder / "usr"
        # PostgreSQL finds its other files beside its program: .../usr/lib/postgresql/<version>/bin
        shutil.copytree(binaries.parents[3], copy, symlinks=True)
        self._folder.chmod(0o755)
        return copy / binaries.relative_to(binaries.parents[3])

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return "127.0.0.1", self.port

    def url(self, database: str, port: int | None = None) -> str:
        """Of a database, as the relay's `store` wants it; `port` is that of a proxy before it."""
        return f"postgresql://relay:{self._password}@127.0.0.1:{port or self.port}/{database}"

    async def create(self) -> str:
        """A fresh database; returns its name."""
        name = f"relay_{secrets.token_hex(8)}"
        await self.execute(f"CREATE DATABASE {name}")
        return name

    async def execute(self, statement: str) -> Any:
        """One statement of the administrator's; its first value; raises SQLAlchemy's errors."""
        url = self.url("postgres").replace("postgresql:", "postgresql+asyncpg:")
        engine = create_async_engine(url, isolation_level="AUTOCOMMIT")
        try:
            async with engine.connect() as connection:
                result = await connection.exec_driver_sql(statement)
                return result.scalar() if result.returns_rows else None
        finally:
            await engine.dispose()

    async def set(self, name: str, value: str | None) -> None:
        """Change a setting, of the connections that there are, too; None: back to its default."""
        before = await self.execute("SELECT pg_conf_load_time()")
        await self.execute(
            f"ALTER SYSTEM RESET {name}" if value is None else f"ALTER SYSTEM SET {name} = {value}"
        )
        await self.execute("SELECT pg_reload_conf()")
        # The server tells its processes when it has read its file, and each looks before its next
        # statement.
        async with asyncio.timeout(_PATIENCE):
            while await self.execute("SELECT pg_conf_load_time()") == before:
                await asyncio.sleep(_LOOK)

    def start(self) -> None:
        """Start it; returns when it answers. Raises `PostgresError`."""
        options = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self._folder,
            # The default of 128 MiB is for servers that last.
            "shared_buffers": "16MB",
        }
        settings = [word for item in options.items() for word in ("-c", f"{item[0]}={item[1]}")]
        mark = self._log.stat().st_size
        self._process = self._run("postgres", "-D", str(self._data), *settings)
        for _ in range(int(_PATIENCE / _LOOK)):
            if _READY in self._log.read_bytes()[mark:]:
                return
            try:
                self._process.wait(_LOOK)
            except subprocess.TimeoutExpired:
                continue
            break
        raise PostgresError(f"PostgreSQL did not start:\n{self._tail()}")

    def stop(self, *, crash: bool = False) -> None:
        """Stop it, its clients' connections too; `crash`: as a power cut would."""
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGQUIT if crash else signal.SIGINT)
            process.wait(_PATIENCE)

    # ---- inside ----

    def _setpriv(self, *words: str) -> list[str]:
        as_user = ["--reuid", _USER, "--regid", "nogroup", "--clear-groups"]
        # It must not outlive the tests, however these end.
        return ["setpriv", *(as_user if os.geteuid() == 0 else []), "--pdeathsig", "QUIT", *words]

    def _run(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        # Where the server was only unpacked, its libraries were unpacked beside it.
        libraries = ":".join(map(str, self._binaries.parents[2].glob("*-linux-gnu")))
        with self._log.open("ab") as log:
            return subprocess.Popen(
                self._setpriv(str(self._binaries / program), *arguments),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env={"PATH": os.environ["PATH"], "LC_ALL": "C", "LD_LIBRARY_PATH": libraries},
            )

    def _tail(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-20:])
