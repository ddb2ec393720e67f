"""LDK for tests: our own small node on it (lab/ldk), which follows btcd or a made-up chain."""

import asyncio
import contextlib
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp

from . import build
from .btcd import Btcd
from .nodes import Node
from .process import Child, LabError, until

#: How far back a node that comes again is shown blocks; no test is away for longer.
REMEMBERED_BLOCKS = 50
FOLLOW_INTERVAL = 0.1


async def stop(task: asyncio.Task[None]) -> None:
    """Ends a task; one that failed raises here what it failed by."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


class LdkNode(Node):
    """LDK, driven over its HTTP interface: on `btcd`'s chain, which must outlive it.

    Without one, on a made-up chain (regtest's genesis).
    """

    def __init__(
        self,
        directory: Path,
        name: str = "ldk",
        *,
        btcd: Btcd | None = None,
        host: str = "127.0.0.1",
        tick_seconds: int = 10,
    ) -> None:
        super().__init__(directory, name)
        self._btcd = btcd
        self._host = host
        self._tick_seconds = tick_seconds
        self._session: aiohttp.ClientSession
        self._follower: asyncio.Task[None] | None = None
        self._base = ""

    async def _start(self, stack: AsyncExitStack) -> None:
        self.child = await Child.start(
            self.name,
            [
                build.home("ldk") / "bin/ldk-node",
                *("--data", self.directory),
                *("--chain", "driven" if self._btcd else "made-up"),
                *("--listen", self.address or f"{self._host}:0"),
                *("--http", "127.0.0.1:0"),
                *("--tick-seconds", str(self._tick_seconds)),
            ],
            self.log,
            lines=True,
        )
        stack.push_async_callback(self.child.stop)
        ready = await self.child.read_line()
        self.node_id = ready["node_id"]
        self.address = ready["address"]
        self._base = f"http://{ready['http']}"
        self._session = await stack.enter_async_context(aiohttp.ClientSession())
        if self._btcd is not None:
            self._follower = asyncio.create_task(self._follow(self._btcd))
            stack.push_async_callback(stop, self._follower)

    async def restart(self) -> None:
        """Kills what runs, and starts it again in the same folder, at the same address."""
        if self._follower is not None:
            # It would fail on the dead node.
            await stop(self._follower)
        await super().restart()

    async def _follow(self, btcd: Btcd) -> None:
        """Shows the node btcd's blocks, and btcd the node's transactions.

        A node that comes back is shown once more what it may have missed.
        """
        told: list[str] = []
        sent: set[str] = set()
        while True:
            height = await btcd.rpc("getblockcount")
            first = max(0, height - REMEMBERED_BLOCKS) if not told else len(told)
            told += [""] * (first - len(told))
            for each in range(first, height + 1):
                told.append(await btcd.rpc("getblockhash", each))
                block = await btcd.rpc("getblock", told[-1], 0)
                await self.post("block", block=block, height=each, tip=each == height)
            for transaction in (await self.info())["mempool"]:
                if transaction not in sent:
                    sent.add(transaction)
                    await btcd.send(bytes.fromhex(transaction))
            await asyncio.sleep(FOLLOW_INTERVAL)

    async def open_channel(
        self, node_id: str, amount_sat: int, push_msat: int = 0, *, anchors: bool
    ) -> None:
        """Opens a channel to a connected peer and pays for it; the node broadcasts when it may."""
        assert self._btcd is not None
        opened = await self.post(
            "open", node_id=node_id, amount_sat=amount_sat, push_msat=push_msat, anchors=anchors
        )
        temporary_id = opened["temporary_channel_id"]
        wanted = await self.event("FundingGenerationReady", temporary_channel_id=temporary_id)
        script = bytes.fromhex(wanted["output_script"])
        transaction = await self._btcd.segwit_payment([(amount_sat, script)])
        await self.post(
            "fund",
            temporary_channel_id=temporary_id,
            node_id=node_id,
            transaction=transaction.hex(),
        )

    async def channels(self) -> list[dict[str, Any]]:
        """The channels of lab/ldk/src/api.rs's info."""
        found: list[dict[str, Any]] = (await self.info())["channels"]
        return found

    async def _request(self, method: str, path: str, body: Mapping[str, object]) -> Any:
        self.child.check()
        async with self._session.request(method, self._base + path, json=body) as response:
            answer = await response.json()
        if response.status != 200:
            raise LabError(f"{self.name} {path}: {answer['error']}")
        return answer

    async def info(self) -> dict[str, Any]:
        """Everything the node knows; lab/ldk/src/api.rs lists the fields."""
        found: dict[str, Any] = await self._request("GET", "/info", {})
        return found

    async def post(self, command: str, **fields: object) -> dict[str, Any]:
        """One of the commands of lab/ldk/src/api.rs, e.g. ``post("keysend", node_id=…)``."""
        answer: dict[str, Any] = await self._request("POST", f"/{command}", fields)
        return answer

    async def connect(self, node_id: str, address: str) -> None:
        """Dials a peer and waits until ``init`` went both ways."""
        await self.post("connect", node_id=node_id, address=address)

    async def event(self, name: str, **fields: object) -> dict[str, Any]:
        """Waits for the first event of a name whose fields are as given."""
        wanted = {"event": name, **fields}

        async def found() -> dict[str, Any] | None:
            events: list[dict[str, Any]] = (await self.info())["events"]
            return next((event for event in events if wanted.items() <= event.items()), None)

        return await until(f"{self.name}'s {wanted}", found, self.child)

    async def received_custom(self, node_id: str, count: int) -> dict[str, Any]:
        """Waits for `count` custom messages of a peer, or until it is gone.

        Returns the tally of what came (see `load_tally`).
        """

        async def arrived() -> dict[str, Any] | None:
            info = await self.info()
            gone = all(peer["node_id"] != node_id for peer in info["peers"])
            tallies = info["custom"].get(node_id, {})
            tally: dict[str, Any] = tallies.get("received", {"messages": 0})
            return tally if gone or tally["messages"] >= count else None

        return await until(f"{count} messages at {self.name}", arrived, self.child)


async def confirm(*nodes: LdkNode, blocks: int = 6) -> None:
    """Mines on the chain that `nodes` share: what any of them broadcast goes into the first block.

    Nodes share a chain when each has been told of the same blocks from the start.
    """
    broadcast: dict[str, None] = {}
    for node in nodes:
        broadcast |= dict.fromkeys((await node.info())["mempool"])
    for node in nodes:
        await node.post("confirm", transactions=list(broadcast), blocks=blocks)
