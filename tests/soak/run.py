"""Kills the relay again and again, and lets the rest go on."""

import asyncio
import json
import random
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from coincurve import PrivateKey

from lightning_proxy.bolt.errors import BoltError
from lightning_proxy.bolt.keys import recover_message_signer
from lightning_proxy.rpc.webhook import SIGNATURE_HEADER, TIMESTAMP_HEADER, webhook_text
from tests.interop.lab.process import LabError
from tests.soak.ledger import Ledger
from tests.soak.link import Gone, Refused, link
from tests.soak.peers import Stream, Talker
from tests.soak.relay import HOST, RelayProcess
from tests.soak.tally import Tally
from tests.soak.wallet import SoakWallet
from tests.support.fault_proxy import Direction, FaultProxy
from tests.support.receivers import Push, Receiver

_WALLETS: Final = 4
#: Seconds that a relay lives; and, where it is killed while it starts, from its birth on.
_LIFE: Final = (0.05, 1.1)
_BIRTH: Final = (0.2, 1.2)
#: Seconds for the wallets to be told all, at the end.
_PATIENCE: Final = 90.0


class Soak:
    """`report` is called after each kill. `store`: a database's URL; None: SQLite in a file.

    The seed decides when the relay is killed and who does what; the machine's own timing does the
    rest, so that a seed repeats a soak's course and not its every step.
    """

    def __init__(
        self, tally: Tally, kills: int, report: Callable[[], None], store: str | None = None
    ) -> None:
        self._tally = tally
        self._kills = kills
        self._report = report
        self._store = store
        self._ledger = Ledger(tally)
        self._rng = random.Random(tally.seed)

    def _dice(self, name: str) -> random.Random:
        return random.Random(f"{self._tally.seed} {name}")

    async def run(self) -> None:
        """Raises `LabError` when the relay does not start any more; the tally has the rest."""
        started = time.monotonic()
        try:
            async with AsyncExitStack() as stack:
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-"))
                await self._set_up(stack, Path(folder))
                await self._rounds()
                await self._finish()
        finally:
            self._tally.seconds = round(time.monotonic() - started, 1)

    async def _set_up(self, stack: AsyncExitStack, folder: Path) -> None:
        self._relay = RelayProcess(folder, self._store)
        self._talker = Talker(self._ledger, self._dice("talker"))
        await stack.enter_async_context(self._talker.serve())
        receiver = await stack.enter_async_context(Receiver().serve())
        #: Between wallets and relay, between relay and talker, and between relay and receiver.
        self._proxies = [
            await stack.enter_async_context(FaultProxy((HOST, port), seed=self._tally.seed))
            for port in (self._relay.port, self._talker.port, receiver.port)
        ]
        to_relay, to_talker, to_receiver = self._proxies
        self._talker.address = f"{self._talker.node_id.hex()}@{to_talker.netloc}"
        self._relay.origins = [f"http://{to_relay.netloc}"]
        self._webhooks = f"http://{to_receiver.netloc}"
        urls = [self._relay.url, *self._relay.origins]
        self._wallets = [
            SoakWallet(
                self._ledger,
                self._dice(f"wallet {number}"),
                urls,
                self._talker,
                f"{self._webhooks}/{number}",
            )
            for number in range(_WALLETS)
        ]
        self._observer = b"\x0b" * 32
        stack.push_async_callback(self._relay.kill)
        await self._relay.start()
        tasks = [
            asyncio.create_task(self._deliver(receiver)),
            asyncio.create_task(self._disturb(self._dice("network"))),
        ]
        self._lives = [asyncio.create_task(wallet.live()) for wallet in self._wallets]
        stack.push_async_callback(_end, [*tasks, *self._lives])

    # ---- the rounds ----

    async def _rounds(self) -> None:
        for _ in range(self._kills):
            await asyncio.sleep(self._rng.uniform(*_LIFE))
            if self._rng.random() < 0.5:
                await self._note_what_is_stored()
                await asyncio.sleep(self._rng.choice((0.0, 0.0, self._rng.uniform(0, 0.1))))
            await self._relay.kill()
            self._tally.kills += 1
            if self._rng.random() < 0.1:
                await self._relay.spawn()
                await asyncio.sleep(self._rng.uniform(*_BIRTH))
                await self._relay.kill()
                self._tally.killed_at_start += 1
            await asyncio.sleep(self._rng.choice((0.0, 0.0, 0.3)))
            await self._relay.start()
            self._check_lives()
            self._report()

    def _check_lives(self) -> None:
        for life in self._lives:
            if life.done():
                life.result()

    async def _note_what_is_stored(self) -> None:
        """What the peers sent by now, once the relay has it on disk: it must never be lost."""
        streams = list(self._talker.streams)
        counts = await asyncio.gather(*(stream.arrived() for stream in streams))
        if await self._is_flushed():
            for stream, count in zip(streams, counts, strict=True):
                self._note(stream, count)

    def _note(self, stream: Stream, count: int | None) -> None:
        if count is not None:
            self._tally.sent_and_stored += count - stream.said.stored
            stream.said.stored = count

    async def _is_flushed(self) -> bool:
        """An acknowledgement's result comes after all that the relay knew before is on disk."""
        node_id = PrivateKey(self._observer).public_key.format()
        try:
            async with link(self._relay.url, lambda _: None) as observer:
                await observer.authenticate(self._observer, node_id)
                await observer.call("acknowledge", position=0)
        except (Gone, Refused):
            return False
        return True

    async def _finish(self) -> None:
        """A last kill; then every wallet has to be told all there is."""
        for proxy in self._proxies:
            proxy.heal()
        self._talker.is_quiet = True
        for wallet in self._wallets:
            wallet.finish()
        await self._note_what_is_stored()
        await self._relay.kill()
        self._tally.kills += 1
        await self._relay.start()
        _, waiting = await asyncio.wait(self._lives, timeout=_PATIENCE)
        for wallet, life in zip(self._wallets, self._lives, strict=True):
            if life in waiting:
                untold = wallet.untold()
                self._ledger.lost(f"never told: {', '.join(untold)}", max(1, len(untold)))
        self._check_lives()
        for line in self._relay.errors():
            self._ledger.wrong(f"the relay's log: {line}")
        self._tally.finished = True

    # ---- what goes on meanwhile ----

    async def _deliver(self, receiver: Receiver) -> None:
        """Pushes to their wallets, once the signature is right; some have to come again."""
        dice = self._dice("receiver")
        while True:
            push = await receiver.pushes.get()
            receiver.answers(dice.choice((200, 200, 200, 204, 500, 503)))
            wallet = self._wallets[int(push.path[1:])]
            if self._is_signed(push, f"{self._webhooks}{push.path}", wallet):
                self._tally.wakes += 1
                wallet.woken.set()

    def _is_signed(self, push: Push, url: str, wallet: SoakWallet) -> bool:
        body = push.body.decode()
        text = webhook_text(push.headers[TIMESTAMP_HEADER], url, body)
        try:
            signer = recover_message_signer(push.headers[SIGNATURE_HEADER], text)
        except BoltError:
            signer = b""
        if signer.hex() != wallet.relay_node_id or set(json.loads(body)) != {"reason", "id"}:
            self._ledger.wrong(f"a push that is not the relay's: {body}")
            return False
        return True

    async def _disturb(self, dice: random.Random) -> None:
        """The network: each way is good, in pieces, slow, stalled for a moment, or cut."""
        while not self._talker.is_quiet:
            await asyncio.sleep(dice.uniform(0.1, 1.0))
            proxy = dice.choice(self._proxies)
            direction = dice.choice((proxy.up, proxy.down))
            direction.heal()
            match dice.choice(("good", "pieces", "slow", "stall", "cut", "cut within")):
                case "pieces":
                    direction.split, direction.random_split = 200, True
                case "slow":
                    direction.delay = 0.01
                case "stall":
                    direction.stall()
                    await asyncio.sleep(dice.uniform(0, 0.5))
                    direction.resume()
                case "cut":
                    self._tally.network_cuts += proxy.cut(reset=dice.random() < 0.5)
                case "cut within":
                    self._cut_within(direction, dice)

    def _cut_within(self, direction: Direction, dice: random.Random) -> None:
        direction.cut_after = dice.randrange(2000)
        self._tally.network_cuts += 1


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


__all__ = ["LabError", "Soak"]
