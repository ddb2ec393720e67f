"""Our own two programs as processes of the lab: they can be killed and started again."""

import asyncio
import json
import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from .process import Child, LabError, Part, free_port, until

HOST = "127.0.0.1"
ROOT = Path(__file__).parents[3]
_PROGRAM: list[str | Path] = [sys.executable, "-m", "lightning_proxy"]
_PASSPHRASE = {"LIGHTNING_PROXY_WALLET_PASSPHRASE": "the lab's"}


class RelayProcess(Part):
    """`lightning-proxy serve` with this chain source; its log tells how far an opening is."""

    def __init__(self, directory: Path, chain: str, dial_source: str) -> None:
        self._directory = directory
        self._chain = chain
        self._dial_source = dial_source
        self._port = free_port(HOST)
        self.url = f"http://{HOST}:{self._port}"
        self._log = directory / "relay.log"

    async def _start(self, stack: AsyncExitStack) -> None:
        settings = {
            "LIGHTNING_PROXY_RELAY_CHAIN": self._chain,
            "LIGHTNING_PROXY_RELAY_CHAIN_INTERVAL": "0.1",
            "LIGHTNING_PROXY_RELAY_STORE": str(self._directory / "relay.sqlite"),
        }
        options = ("--port", str(self._port), "--dial-source", self._dial_source)
        logging = ("--log-level", "debug", "--log-format", "json")
        self.child = await Child.start(
            "relay", [*_PROGRAM, "serve", *options, *logging], self._log, lines=True, env=settings
        )
        stack.push_async_callback(self.child.stop)
        await self.child.read_line()

    def mark(self) -> int:
        """How much of the log there is."""
        return self._log.stat().st_size

    async def said(self, since: int, event: str, *, times: int = 1, **fields: str) -> None:
        """Wait until the log has this event after a mark, so many times."""
        wanted = {"event": event, **fields}

        async def found() -> bool:
            with self._log.open("rb") as log:
                log.seek(since)
                # The last line may be half written.
                lines, _, _ = log.read().rpartition(b"\n")
            events = (json.loads(line) for line in lines.splitlines() if line.startswith(b"{"))
            count = sum(1 for event in events if wanted.items() <= event.items())
            return count >= times

        # At once: who is killed then is killed in the middle of it.
        await until(f"the relay's {wanted}", found, patience=30, interval=0.001)


class WalletProcess(Part):
    """`lightning-proxy wallet watch` with a policy that takes what the lab's peers offer."""

    def __init__(self, directory: Path, relay: RelayProcess, chain: str) -> None:
        self._directory = directory
        self._relay = relay
        self._chain = chain
        self._policy = directory / "policy.toml"
        self._policy.write_text('chains = ["regtest"]\nmax_channels_a_day = 1000\n')
        self.node_id = ""

    @property
    def _file(self) -> tuple[str, str]:
        return "--file", str(self._directory / "wallet.json")

    async def _start(self, stack: AsyncExitStack) -> None:
        if not self.node_id:
            created = await self.run("create", relay=False)
            self.node_id = created[0]["node_id"]
        self.child = await Child.start(
            "wallet",
            [
                *(*_PROGRAM, "wallet", "watch", *self._file, "--relay", self._relay.url),
                *("--chain", self._chain, "--approve", "policy"),
                *("--policy", str(self._policy), "--json"),
            ],
            self._directory / "wallet.log",
            lines=True,
            env=_PASSPHRASE,
        )
        stack.push_async_callback(self.child.stop)
        reader = asyncio.create_task(self._read())
        stack.callback(reader.cancel)

    async def _read(self) -> None:
        """What it says, into its log: a full pipe would stop it."""
        with (self._directory / "wallet.log").open("a") as log:
            while True:
                print(json.dumps(await self.child.read_line()), file=log, flush=True)

    async def run(self, *words: str, relay: bool = True) -> list[dict[str, Any]]:
        """One command of the wallet's, as its owner gives it; its lines of JSON."""
        at_relay = ("--relay", self._relay.url) if relay else ()
        process = await asyncio.create_subprocess_exec(
            *(*_PROGRAM, "wallet", *words, *self._file, *at_relay, "--json"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=os.environ | _PASSPHRASE,
        )
        output, errors = await process.communicate()
        if process.returncode != 0:
            raise LabError(f"wallet {words[0]}: {errors.decode(errors='replace').strip()}")
        return [json.loads(line) for line in output.splitlines()]

    async def connect(self, url: str) -> None:
        """Make sure that there is a session with this peer."""
        node_id = url.partition("@")[0]

        async def connected() -> bool:
            sessions = await self.run("sessions")
            if any(s["peer"].startswith(node_id) and s["state"] == "ready" for s in sessions):
                return True
            await self.run("connect", url)
            return True

        await until(f"a session with {url}", connected, patience=30)


class PayingWallet(Part):
    """`paying_wallet` as a process; each command is a method of its `Program`."""

    def __init__(self, directory: Path, relay: RelayProcess, chain: str) -> None:
        self._directory = directory
        self._relay = relay
        self._chain = chain
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._count = 0
        self.node_id = ""

    async def _start(self, stack: AsyncExitStack) -> None:
        module = ("-m", "tests.interop.lab.paying_wallet")
        where = (str(self._directory / "wallet.json"), self._relay.url, self._chain)
        self.child = await Child.start(
            "wallet",
            [sys.executable, *module, *where],
            self._directory / "wallet.log",
            lines=True,
            cwd=ROOT,
        )
        stack.push_async_callback(self.child.stop)
        self.node_id = (await self.child.read_line())["node_id"]
        reader = asyncio.create_task(self._read())
        stack.callback(reader.cancel)

    async def _read(self) -> None:
        try:
            while True:
                answer = await self.child.read_line()
                waiting = self._waiting.pop(answer["id"])
                if waiting.done():
                    # Who asked has stopped waiting.
                    continue
                if "error" in answer:
                    waiting.set_exception(LabError(f"wallet: {answer['error']}"))
                else:
                    waiting.set_result(answer["result"])
        finally:
            for lost in self._waiting.values():
                lost.set_exception(LabError("the wallet is gone"))
            self._waiting.clear()

    async def do(self, command: str, **words: object) -> Any:
        """One command; LabError with what the wallet says, or when it is killed meanwhile."""
        self._count += 1
        answer = self._waiting[self._count] = asyncio.get_running_loop().create_future()
        await self.child.write_line({"id": self._count, "command": command, **words})
        return await answer
