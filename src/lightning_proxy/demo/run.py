"""Starts relay, peer and wallet, lets them play the flow, and searches for the wallet's keys."""

import asyncio
import json
import os
import platform
import tempfile
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from msgspec import Struct

from lightning_proxy import __version__
from lightning_proxy.demo import memory
from lightning_proxy.demo.programs import Program, environ_without_settings
from lightning_proxy.demo.proof import Proof, prove, search_memory, search_streams, wrong_keys
from lightning_proxy.demo.recorder import Recorder
from lightning_proxy.demo.steps import OFFERED, Flow, Step
from lightning_proxy.demo.watcher import PATIENCE, DemoFailed, Watcher
from lightning_proxy.transport import kernel_name

#: Seconds for a real peer's `funding_created`, which the wallet refuses so that it frees its funds.
_FUNDING_PATIENCE: Final = 5.0
#: Seconds between the relay's pings of a quiet peer, and between looks at a session's counters.
_PING_INTERVAL: Final = 1.0
_COUNT_INTERVAL: Final = 0.2


class Report(Struct, frozen=True, kw_only=True):
    """What happened; `ok` only if each step came, in a legal order, and the proof holds.

    Otherwise `failure` says what failed, and `log` is the end of the programs' logs. `channel` is
    how "peer" and "wallet" see the channel that was opened, where one was.
    """

    ok: bool
    failure: str | None
    steps: list[Step]
    proof: Proof | None
    channel: dict[str, dict[str, Any]] | None
    peer: str | None
    versions: dict[str, str]
    log: list[str]


class Demo:
    """One run, made inside an event loop: up to `accept_channel`, with keys that move no funds.

    `on_step` gets each step as it happens, `on_hint` what the user has to do. `peer`
    ("pubkey@host:port") is a real node to take instead of the built-in one; it gets `wait` seconds
    for its `open_channel`.
    """

    def __init__(
        self,
        on_step: Callable[[Step], None],
        on_hint: Callable[[str], None],
        *,
        peer: str | None = None,
        wait: float = 120.0,
        flow: Flow = OFFERED,
    ) -> None:
        self._on_hint = on_hint
        self._peer = peer
        self._is_real = peer is not None
        self._wait = wait if self._is_real else PATIENCE
        self._watcher = Watcher(flow, on_step)
        self._programs: list[Program] = []
        self._channel: dict[str, dict[str, Any]] | None = None

    async def run(self) -> Report:
        """Everything; nothing is left running, whatever happens."""
        proof: Proof | None = None
        failure: str | None = None
        showing = asyncio.create_task(self._watcher.show())
        try:
            async with AsyncExitStack() as stack:
                proof = await self._play(stack)
            failure = self._watcher.flow.what_is_wrong(self._watcher.steps)
            if failure is None and not proof.holds:
                failure = proof.sentence
        except DemoFailed as error:
            failure = str(error)
        finally:
            showing.cancel()
            self._watcher.show_rest()
        return Report(
            ok=failure is None,
            failure=failure,
            steps=self._watcher.steps,
            proof=proof,
            channel=self._channel,
            peer=self._peer,
            versions={
                "lightning-proxy-server": __version__,
                "kernel": kernel_name(),
                "python": platform.python_version(),
                "system": f"{platform.system()} {platform.machine()}",
            },
            log=[line for program in self._programs for line in program.tail()] if failure else [],
        )

    async def _play(self, stack: AsyncExitStack) -> Proof:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lightning-proxy-")))
        recorder = await stack.enter_async_context(Recorder())
        await self._prepare(stack)
        relay = await self._start_relay(stack, folder, recorder)
        if self._peer is None:
            self._peer = await self._start_peer(stack)
        wallet, keys = await self._start_wallet(stack, folder, recorder, self._peer)
        node_id: str = (await self._watcher.said("wallet", "ready"))["node_id"]
        seen = await self._follow(node_id)
        return await self._prove(relay, wallet, recorder, keys, node_id, seen)

    # ---- what another kind of demo does in another way ----

    async def _prepare(self, stack: AsyncExitStack) -> None:
        """Start what the others need."""

    def _relay_settings(self) -> str:
        """Lines of the relay's TOML file, for its section `relay`."""
        return ""

    def _peer_arguments(self) -> list[str]:
        return []

    def _wallet_arguments(self) -> list[str]:
        # The built-in peer tells of its ping by itself.
        return ["--count-interval", str(_COUNT_INTERVAL)] if self._is_real else []

    async def _follow(self, node_id: str) -> dict[str, Any]:
        """Wait for the steps; returns the fields in which the peer got the wallet's public keys."""
        watcher = self._watcher
        if self._is_real:
            self._on_hint(_how_to_open(node_id, self._wait))
        await watcher.until(lambda: watcher.has("open_channel"), "no open_channel came", self._wait)
        await watcher.until(lambda: watcher.has("accept_channel"), "no accept_channel was sent")
        await watcher.until(lambda: watcher.has("pong"), "no ping was answered")
        if self._is_real:
            with suppress(DemoFailed):
                await watcher.said("relay", "delegation_refused", _FUNDING_PATIENCE)
            return watcher.answer
        await watcher.said("peer", "done")
        return fields_of(await watcher.said("peer", "accept_channel_received"))

    # ---- the programs ----

    async def _start_relay(
        self, stack: AsyncExitStack, folder: Path, recorder: Recorder
    ) -> Program:
        file = folder / "relay.toml"
        # The wallet reaches the relay through the recorder, so that is the relay's name.
        file.write_text(
            f'[api]\nport = 0\norigins = ["http://127.0.0.1:{recorder.port}"]\n'
            f"[relay]\nping_interval = {_PING_INTERVAL}\n"
            f'store = "{folder / "relay.sqlite"}"\n{self._relay_settings()}'
            f"[relay.dial]\nallow_private = {str(self._is_real).lower()}\n"
            '[log]\nlevel = "debug"\nformat = "json"\n'
        )
        relay = await self._start(
            stack, "relay", ["lightning_proxy", "serve", "--config", str(file)]
        )
        ready = await self._watcher.said("relay", "ready")
        recorder.target_port = urlsplit(ready["url"]).port or 0
        return relay

    async def _start_peer(self, stack: AsyncExitStack) -> str:
        """The built-in one; returns its address."""
        arguments = ["lightning_proxy.demo.peer", "--port", "0", *self._peer_arguments()]
        await self._start(stack, "peer", arguments)
        address: str = (await self._watcher.said("peer", "listening"))["address"]
        return address

    async def _start_wallet(
        self, stack: AsyncExitStack, folder: Path, recorder: Recorder, peer: str
    ) -> tuple[Program, dict[str, bytes]]:
        """The program, connected, and its private keys by name, which no other program sees."""
        reading, writing = os.pipe()
        with os.fdopen(reading, "rb") as pipe:
            arguments = [
                "lightning_proxy.demo.wallet",
                *("--relay", f"http://127.0.0.1:{recorder.port}", "--peer", peer),
                *("--folder", str(folder), "--keys-descriptor", str(writing)),
                *self._wallet_arguments(),
            ]
            try:
                wallet = await self._start(stack, "wallet", arguments, writing)
            finally:
                os.close(writing)
            await self._watcher.said("wallet", "ready")
            keys = {name: bytes.fromhex(key) for name, key in json.load(pipe).items()}
        await self._watcher.said("wallet", "connected")
        return wallet, keys

    async def _start(
        self, stack: AsyncExitStack, name: str, arguments: list[str], *descriptors: int
    ) -> Program:
        program = Program(
            name,
            arguments,
            self._watcher.take,
            environ=environ_without_settings(),
            pass_fds=descriptors,
        )
        self._programs.append(program)
        return await stack.enter_async_context(program)

    # ---- the proof ----

    async def _prove(
        self,
        relay: Program,
        wallet: Program,
        recorder: Recorder,
        keys: Mapping[str, bytes],
        node_id: str,
        fields: Mapping[str, Any],
    ) -> Proof:
        wrong = wrong_keys(keys, node_id, fields)
        if wrong:
            raise DemoFailed(f"the keys to look for are not those in use: {', '.join(wrong)}")
        controls = self._watcher.transport_keys
        searches, not_searched = [], []
        if memory.can_read():
            try:
                searches.append(
                    await asyncio.to_thread(search_memory, relay.process_id, keys, controls)
                )
            except memory.MemoryUnreadable as error:
                raise DemoFailed(f"the relay's memory can't be searched: {error}") from None
        else:
            not_searched.append("the memory of the running relay: that needs Linux")
        # Only now is the recording complete.
        await wallet.stop()
        public = {
            "node id": bytes.fromhex(node_id),
            "funding_pubkey": bytes.fromhex(fields["funding_pubkey"]),
        }
        try:
            streams = recorder.recorded()
        except ValueError as error:
            raise DemoFailed(f"the recording can't be read: {error}") from None
        searches.insert(0, search_streams(streams, keys, {**public, **controls}))
        return prove(keys, searches, not_searched)


def fields_of(line: dict[str, Any]) -> dict[str, Any]:
    """Those of the message that a program's line tells of."""
    fields: dict[str, Any] = line["fields"]
    return fields


def _how_to_open(node_id: str, seconds: float) -> str:
    return (
        f"Now have your node open a channel, within {seconds:g} s:\n"
        f"  lnd             lncli openchannel --node_key={node_id} --local_amt=1000000 --private\n"
        f"  Core Lightning  lightning-cli -k fundchannel id={node_id} amount=1000000 "
        "announce=false\n"
        "It gets an accept_channel, and then an error instead of funding_signed: no funds move."
    )
