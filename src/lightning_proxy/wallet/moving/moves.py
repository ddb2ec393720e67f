"""A wallet's channels that move: it answers for them, and moves them of its own accord."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeVar

import msgspec
import structlog

from lightning_proxy import rpc
from lightning_proxy.bolt.channel import ChannelState
from lightning_proxy.bolt.errors import BoltError
from lightning_proxy.bolt.messages import ChannelReestablish
from lightning_proxy.chain import ChainError
from lightning_proxy.rpc.frames import MOVES_BYTES
from lightning_proxy.wallet import steps
from lightning_proxy.wallet.confirmations import OwnChain
from lightning_proxy.wallet.errors import ConnectionLost, RelayError
from lightning_proxy.wallet.events import ChannelProblem, Event
from lightning_proxy.wallet.keys import WalletKeys
from lightning_proxy.wallet.moving import rounds
from lightning_proxy.wallet.moving.rounds import Means, NotReady, Proved, Round, StateLost
from lightning_proxy.wallet.moving.tables import Book
from lightning_proxy.wallet.policy import Policy
from lightning_proxy.wallet.record import Ledger, Record, StoredChannel
from lightning_proxy.wallet.request import CommitmentRequest, LeftOpen, Refusal, Request

_log = structlog.get_logger()

#: Seconds for which the tip is not asked for again.
_TIP_KEPT: Final = 5.0
#: Seconds between two looks at what a question waits for: a `channel_ready`, or the tip.
_ASK_AGAIN: Final = 0.1
_JUDGE_AGAIN: Final = 5.0
#: Seconds for which a question waits for the peer's `channel_ready` to be heard.
_READY_WITHIN: Final = 20.0

T = TypeVar("T")
#: Sends the relay what moves a channel; raises `RelayError` and `ConnectionLost`.
Update = Callable[[rpc.UpdateChannel], Awaitable[None]]


class Moves:
    """`answer` and `reestablish` need nothing but the record; `attach` joins the rest to it."""

    def __init__(
        self, keys: WalletKeys, policy: Policy, record: Record, chain: OwnChain | None = None
    ) -> None:
        self.policy = policy
        self.record = record
        self.keys = keys
        self._chain = chain
        self._tip: tuple[float, int] | None = None
        self._emit: Callable[[Event], None] = lambda _: None
        self._update: Update | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        #: Channels whose HTLCs wait for the tip.
        self._waiting: set[int] = set()

    def attach(self, emit: Callable[[Event], None], update: Update) -> None:
        """Where events go, and by what the relay is told."""
        self._emit = emit
        self._update = update

    async def close(self) -> None:
        """Stop what is under way; all of it is in the record."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # ---- the relay asks ----

    async def answer(self, request: CommitmentRequest) -> rpc.Commitment:
        """Raises `Refusal` and `RecordError`."""
        fence = request.fence
        if fence is None:
            raise Refusal("a question about what moves says where the relay stands")
        means = await self.means()

        def work(ledger: Ledger) -> tuple[rpc.Commitment, Round]:
            stored = _funded(ledger, request)
            return rounds.answer(
                Book(ledger), stored, means, request.session_id, fence, request.raw_messages
            )

        until = time.monotonic() + _READY_WITHIN
        while True:
            try:
                answer, done = await self.record.change(work)
            except NotReady:
                if time.monotonic() > until:
                    raise LeftOpen from None
                await asyncio.sleep(_ASK_AGAIN)
            except StateLost as error:
                raise await self._lost(request.peer, request.channel_id, error) from None
            else:
                self._done(done)
                return answer

    async def reestablish(self, request: Request) -> rpc.Reestablish | None:
        """Where a channel that is ready stands; None for one that is not.

        Raises `BoltError`, `Refusal` and `RecordError`.
        """

        def work(ledger: Ledger) -> rpc.Reestablish | None:
            # What the peer repeats of the opening must be what it had said.
            stored, channel = steps.funded(ledger, request)
            if channel.state is not ChannelState.READY:
                return None
            ledger.extend(stored, channel)
            # By what was just heard it may have become so.
            stored = _funded(ledger, request)
            return rounds.reestablish(Book(ledger), stored, request.session_id)

        return await self.record.change(work)

    async def standings(self, session_id: str, peer: bytes) -> list[rpc.ChannelStanding]:
        """Where all channels with this peer (node id) stand that are ready, as far as one request
        has room; the relay asks about the others. Raises `RecordError`.
        """

        def work(ledger: Ledger) -> list[rpc.ChannelStanding]:
            standings: list[rpc.ChannelStanding] = []
            room = MOVES_BYTES - len("[]")
            for stored in ledger.with_peer(peer):
                if stored.failure is not None:
                    continue
                try:
                    standing = rounds.standing(Book(ledger), stored, session_id)
                except NotReady:
                    continue
                room -= len(msgspec.json.encode(standing)) + len(",")
                if room < 0 or len(standings) == rpc.MAX_STANDINGS:
                    break
                standings.append(standing)
            return standings

        return await self.record.change(work)

    # ---- of the wallet's own accord ----

    async def reestablished(
        self, session_id: str, peer: bytes, raw: bytes, message: ChannelReestablish
    ) -> bool:
        """The peer says where it stands; whether that is about a channel that moves."""

        def work(ledger: Ledger) -> tuple[bool, Round | None]:
            stored = ledger.funded(peer, message.channel_id)
            book = Book(ledger)
            live = None if stored is None else book.live(stored.index)
            if stored is None or live is None:
                return False, None
            if live.session_id != session_id or live.heard:
                return True, None
            return True, rounds.turn(book, stored, live, means, (raw,))

        means = await self.means()
        try:
            is_known, done = await self.record.change(work)
        except StateLost as error:
            await self._lost(peer, message.channel_id, error)
            return True
        except (BoltError, Refusal) as error:
            self._emit(ChannelProblem(message.channel_id, peer, str(error)))
            return True
        if done is not None:
            self._done(done)
            await self._tell(done)
        return is_known

    async def go_on(self, indices: Iterable[int] | None = None) -> None:
        """Say what there is to say in these channels, or in all, and what the relay may lack."""
        if indices is None:
            lives = await self.record.change(lambda ledger: Book(ledger).lives())
            indices = [live.index for live in lives]
        for index in indices:
            means = await self.means()

            def work(ledger: Ledger, index: int = index, means: Means = means) -> Round | None:
                book, stored = Book(ledger), ledger.by_index(index)
                live = book.live(index)
                if stored is None or live is None or live.lost is not None:
                    return None
                return rounds.turn(book, stored, live, means)

            done = await self.record.change(work)
            if done is not None:
                self._done(done)
                await self._tell(done)

    async def _tell(self, done: Round) -> None:
        """What the relay does not take now, it asks for, or hears on the next connection."""
        update = rounds.update_of(done.live)
        if update is None or self._update is None:
            return
        try:
            await self._update(update)
        except (RelayError, ConnectionLost) as error:
            _log.info("update_not_taken", channel_id=update.channel_id, reason=str(error))

    # ---- inside ----

    async def means(self) -> Means:
        """What the wallet goes by at this moment."""
        height = None
        if self._chain is not None:
            now = time.monotonic()
            if self._tip is None or now - self._tip[0] > _TIP_KEPT:
                try:
                    self._tip = now, (await self._chain.source.tip()).height
                except ChainError as error:
                    _log.warning("no_tip", reason=str(error))
                    self._tip = None
            height = None if self._tip is None else self._tip[1]
        return Means(self.keys, self.policy, height, self._chain is not None)

    def _done(self, done: Round) -> None:
        """A step is on the disk."""
        for event in done.events:
            self._emit(event)
        if done.waits and done.live.index not in self._waiting:
            self._waiting.add(done.live.index)
            task = asyncio.create_task(self._judge_later(done.live.index))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _judge_later(self, index: int) -> None:
        await asyncio.sleep(_JUDGE_AGAIN)
        self._waiting.discard(index)
        await self.go_on((index,))

    async def _lost(self, peer: bytes, channel_id: bytes, error: StateLost) -> Refusal:
        """Tell the owner; what is proved is never gone on with."""
        if isinstance(error, Proved):

            def work(ledger: Ledger) -> None:
                stored = ledger.funded(peer, channel_id)
                if stored is not None:
                    rounds.lose(Book(ledger), stored.index, error.reason)

            await self.record.change(work)
        self._emit(ChannelProblem(channel_id, peer, error.reason, state_lost=True))
        return Refusal(error.reason)


def _funded(ledger: Ledger, request: Request) -> StoredChannel:
    stored = ledger.funded(request.peer, request.channel_id)
    if stored is None:
        raise Refusal("this wallet's record has no channel of that id with that peer")
    return stored
