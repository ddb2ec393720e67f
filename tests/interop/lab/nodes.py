"""Real peers for tests, each an async context manager that is ready when entered.

They keep their files and logs in the folder that they are given, listen on loopback only, and
leave nothing running.
"""

import asyncio
import contextlib
import hashlib
import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, ClassVar

from . import build
from .btcd import Btcd
from .process import READY_TIMEOUT, Child, LabError, Part, free_port, until
from .responder import FIRST_CUSTOM_TYPE, custom_message

ROOT = Path(__file__).parents[3]
FIRST_ODD_CUSTOM_TYPE = FIRST_CUSTOM_TYPE + 1

# lnd takes a peer at 127.0.0.1 for one behind Tor and triples its timers.
LND_HOST = "127.0.0.2"


def load_tally(count: int, size: int, message_type: int = FIRST_ODD_CUSTOM_TYPE) -> dict[str, Any]:
    """What a lab node's tally says of `count` custom messages of `size` bytes, all arrived."""
    digest = hashlib.sha256()
    for index in range(count):
        digest.update(custom_message(index, size, message_type))
    return {"messages": count, "bytes": count * size, "sha256": digest.hexdigest()}


class Node(Part):
    """A peer with an identity and an address; a subclass starts it."""

    node_id: str
    #: Stays the same over a restart.
    address: str = ""

    def __init__(self, directory: Path, name: str) -> None:
        self.name = name
        self.directory = directory / name
        self.log = directory / f"{name}.log"

    @property
    def url(self) -> str:
        """``pubkey@host:port``."""
        return f"{self.node_id}@{self.address}"


class Lnd(Node):
    """lnd on a `Btcd`, which must outlive it."""

    def __init__(
        self, directory: Path, btcd: Btcd, name: str = "lnd", *options: str, host: str = LND_HOST
    ) -> None:
        super().__init__(directory, name)
        self._btcd = btcd
        self._host = host
        self._options = options
        self._rpc_address = ""

    async def _start(self, stack: AsyncExitStack) -> None:
        self.address = self.address or f"{self._host}:{free_port(self._host)}"
        self._rpc_address = f"127.0.0.1:{free_port('127.0.0.1')}"
        self.child = await Child.start(
            self.name,
            [
                build.home("lnd") / "bin/lnd",
                f"--lnddir={self.directory}",
                f"--alias={self.name}",
                f"--listen={self.address}",
                f"--rpclisten={self._rpc_address}",
                f"--bitcoin.{self._btcd.network}",
                "--bitcoin.node=btcd",
                "--bitcoin.defaultchanconfs=1",
                "--maxpendingchannels=10",
                f"--btcd.rpchost={self._btcd.rpc_address}",
                f"--btcd.rpcuser={self._btcd.rpc_user}",
                f"--btcd.rpcpass={self._btcd.rpc_password}",
                f"--btcd.rpccert={self._btcd.rpc_cert}",
                "--noseedbackup",
                "--no-macaroons",
                "--norest",
                "--nobootstrap",
                "--trickledelay=50",
                "--accept-keysend",
                "--debuglevel=debug",
                "--logging.file.disable",
                *self._options,
            ],
            self.log,
        )
        stack.push_async_callback(self.child.stop)

        async def synced() -> dict[str, Any] | None:
            info = await self.cli("getinfo")
            # It follows the chain before its server is up; until then it refuses to connect.
            active = (await self.cli("state"))["state"] == "SERVER_ACTIVE"
            return info if info["synced_to_chain"] and active else None

        info = await until(f"{self.name} to follow its chain", synced, self.child)
        self.node_id = info["identity_pubkey"]

    async def cli(self, *words: object) -> Any:
        """Runs lncli; its JSON, or LabError with what it says."""
        process = await asyncio.create_subprocess_exec(
            build.home("lnd") / "bin/lncli",
            f"--lnddir={self.directory}",
            f"--rpcserver={self._rpc_address}",
            f"--network={self._btcd.network}",
            "--no-macaroons",
            *(str(word) for word in words),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(READY_TIMEOUT):
                output, errors = await process.communicate()
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        if process.returncode != 0:
            said = errors.decode(errors="replace").strip()
            raise LabError(f"{self.name}: lncli {words[0]}: {said}")
        return json.loads(output or b"{}")

    async def fund(self, amount_sat: int = 100_000_000) -> None:
        """Gives the node confirmed money."""
        address = (await self.cli("newaddress", "p2wkh"))["address"]
        await self._btcd.fund(address, amount_sat)
        await self._btcd.mine(1)

        async def arrived() -> bool:
            balance = await self.cli("walletbalance")
            return int(balance["confirmed_balance"]) >= amount_sat

        await until(f"{self.name}'s money", arrived, self.child)

    async def connect(self, url: str) -> None:
        """Connects to ``pubkey@host:port``; LabError when the handshake or ``init`` fails."""
        await self.cli("connect", url, "--timeout", "20s")

    async def open_channel(
        self, node_id: str, amount_sat: int, push_sat: int = 0, *options: str
    ) -> str:
        """Opens a channel to a connected peer; returns the funding txid once it is broadcast.

        `options` are openchannel's, such as ``--channel_type=tweakless``.
        """
        amounts = ("--local_amt", amount_sat, "--push_amt", push_sat, "--sat_per_vbyte", 1)
        opened = await self.cli("openchannel", "--node_key", node_id, *amounts, *options)
        txid: str = opened["funding_txid"]
        return txid

    async def signed_psbt(self, address: str, amount_sat: int) -> str:
        """A PSBT of this node's money that pays to an address, signed and not broadcast."""
        outputs = json.dumps({address: amount_sat})
        funded = await self.cli(
            "wallet", "psbt", "fund", f"--outputs={outputs}", "--sat_per_vbyte=2"
        )
        signed = await self.cli("wallet", "psbt", "finalize", f"--funded_psbt={funded['psbt']}")
        psbt: str = signed["psbt"]
        return psbt

    async def channels(self) -> list[dict[str, Any]]:
        """``listchannels``."""
        found: list[dict[str, Any]] = (await self.cli("listchannels"))["channels"]
        return found

    async def pending_channels(self) -> dict[str, Any]:
        """``pendingchannels``."""
        found: dict[str, Any] = await self.cli("pendingchannels")
        return found

    async def peers(self) -> list[dict[str, Any]]:
        """``listpeers``."""
        found: list[dict[str, Any]] = (await self.cli("listpeers"))["peers"]
        return found


class ScriptedPeer(Node):
    """A responder on another project's transport (responder.py says what it does by itself)."""

    component: ClassVar[str]
    module: ClassVar[str]
    python_path: ClassVar[str] = ""

    def __init__(
        self,
        directory: Path,
        name: str | None = None,
        *,
        host: str = "127.0.0.1",
        init: bytes | None = None,
    ) -> None:
        super().__init__(directory, name or self.component)
        self._host = host
        self._init = init
        self._events: list[dict[str, Any]] = []

    async def _start(self, stack: AsyncExitStack) -> None:
        home = build.home(self.component)
        init = [] if self._init is None else ["--init", self._init.hex()]
        self.child = await Child.start(
            self.name,
            [home / "venv/bin/python", "-m", self.module, "--host", self._host, *init],
            self.log,
            lines=True,
            env={"PYTHONPATH": str(home / self.python_path), "PYTHONDONTWRITEBYTECODE": "1"},
            cwd=ROOT,
        )
        stack.push_async_callback(self.child.stop)
        ready = await self.child.read_line()
        self.node_id = ready["node_id"]
        self.address = ready["address"]
        reader = asyncio.create_task(self._read())
        stack.push_async_callback(self._end, reader)

    async def _read(self) -> None:
        while True:
            self._events.append(await self.child.read_line())

    @staticmethod
    async def _end(reader: "asyncio.Task[None]") -> None:
        reader.cancel()
        with contextlib.suppress(asyncio.CancelledError, LabError):
            await reader

    async def event(self, name: str) -> dict[str, Any]:
        """Waits for an event of a name and takes it: the next call waits for the next one."""

        async def found() -> dict[str, Any] | None:
            for index, event in enumerate(self._events):
                if event["event"] in {name, "failed"}:
                    return self._events.pop(index)
            return None

        event = await until(f"{self.name}'s {name}", found, self.child)
        if event["event"] == "failed":
            raise LabError(f"{self.name}: {event['command']}: {event['reason']}")
        return event

    async def command(self, command: str, **fields: object) -> None:
        """One of the commands of `Responder.obey`."""
        await self.child.write_line({"command": command, **fields})

    async def send(self, message: bytes) -> None:
        """Sends one Lightning message on the latest connection."""
        await self.command("send", message=message.hex())

    async def status(self) -> dict[str, Any]:
        """The counters of `Responder.report`, after every command given before."""
        await self.command("status")
        return await self.event("status")

    async def received_custom(self, count: int) -> dict[str, Any]:
        """Waits for `count` custom messages, or until the other side is gone.

        Returns the tally of what came (see `load_tally`).
        """

        async def arrived() -> dict[str, Any] | None:
            tally: dict[str, Any] = (await self.status())["received"]
            gone = any(event["event"] == "closed" for event in self._events)
            return tally if gone or tally["messages"] >= count else None

        return await until(f"{count} messages at {self.name}", arrived, self.child)


class ElectrumPeer(ScriptedPeer):
    """Electrum 4.3.4's ``lntransport``."""

    component = "electrum"
    module = "tests.interop.lab.electrum_peer"
    python_path = "usr/lib/python3/dist-packages"


class PylnPeer(ScriptedPeer):
    """Core Lightning's pyln-proto."""

    component = "pyln"
    module = "tests.interop.lab.pyln_peer"


async def npm_client(client: str, relay: str, url: str, directory: Path) -> dict[str, Any]:
    """Runs ``bolt08`` or ``noise`` against a relay's REST flow; what it printed, or LabError."""
    child = await Child.start(
        client,
        ["node", Path(__file__).parent / f"npm/{client}_client.js", relay, url],
        directory / f"{client}.log",
        lines=True,
        env={"NODE_PATH": str(build.home("npm") / "node_modules")},
    )
    try:
        async with asyncio.timeout(READY_TIMEOUT):
            return await child.read_line()
    finally:
        await child.stop()
