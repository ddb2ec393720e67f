"""The reference wallet: a keystore, a record, a policy, a chain and the SDK made into one."""

import asyncio
import itertools
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Final, Self, cast

import msgspec
import structlog

from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.errors import BoltError
from lightning_proxy.bolt.messages import ChannelReestablish, ChannelUpdate, Error, Init, Message
from lightning_proxy.chain import open_source
from lightning_proxy.rpc import (
    ANSWERS,
    Answer,
    ChannelInfo,
    ErrorCode,
    Rejected,
    SessionLost,
    SlotInfo,
    SlotPolicy,
    Slots,
    Voided,
)
from lightning_proxy.wallet import answers, files
from lightning_proxy.wallet.backoff import Backoff
from lightning_proxy.wallet.channels import WalletChannels
from lightning_proxy.wallet.client import Wallet
from lightning_proxy.wallet.confirmations import OwnChain
from lightning_proxy.wallet.connection import OnFrame
from lightning_proxy.wallet.device import DeviceKeys
from lightning_proxy.wallet.errors import ChannelError, ConnectionLost, RelayError, WalletError
from lightning_proxy.wallet.events import (
    Answered,
    DelegationReceived,
    Event,
    MessageReceived,
    PeerConnected,
    PeerUnreachable,
    Reconnected,
    Refused,
    SessionClosed,
)
from lightning_proxy.wallet.funding import Funder
from lightning_proxy.wallet.held import HeldOpenings
from lightning_proxy.wallet.keys import WalletKeys
from lightning_proxy.wallet.lists import every
from lightning_proxy.wallet.moving.balances import Balances
from lightning_proxy.wallet.moving.history import Payment
from lightning_proxy.wallet.moving.moves import Moves
from lightning_proxy.wallet.moving.purse import DEFAULT_EXPIRY, Purse
from lightning_proxy.wallet.moving.tables import StoredInvoice
from lightning_proxy.wallet.offer import Offer, offer_channel
from lightning_proxy.wallet.policy import ChannelType, Policy
from lightning_proxy.wallet.record import Record, StoredChannel
from lightning_proxy.wallet.request import Request
from lightning_proxy.wallet.session import Session
from lightning_proxy.wallet.signer import Approve, KeySigner
from lightning_proxy.wallet.slots import leave_slots

_log = structlog.get_logger()

#: Seconds between two looks at a funding output that a question waits for.
_ASK_AGAIN: Final = 2.0
#: Seconds between two looks at what the chain asks for.
_FEES_AGAIN: Final = 600.0
#: Questions that may be open at once, and more.
_MAX_ASKED: Final = 1024
#: How a relay says that another of the wallet's sockets settled a question.
_ELSEWHERE: Final = "another device "
#: And to whom comes second.
_ANSWERED: Final = "the wallet answered."
_GIVEN_UP: Final = "its owner gave the opening up"
#: To peers with whom there are channels.
_RECONNECT: Final = Backoff(first=1.0, most=300.0)


class ReferenceWallet:
    """Use as an async context manager; raises what entering `Wallet` raises, and `RecordError`.

    `client` is the SDK's wallet. `keys` come from the keystore in `path`. `chain` is the URL of a
    chain source of the wallet's own (`ChainError`, `ValueError`); `funder` is the on-chain wallet
    that pays for the channels that this one opens. `reconnect`: while it watches, it connects to
    the peers with whom it has channels, again and again. `device`, made with these keys, is who
    comes to the relay; None: the node key.
    """

    client: Wallet
    record: Record
    channels: WalletChannels
    moves: Moves
    #: What an owner does with the money in channels.
    purse: Purse
    #: The wallet's own view of the chain, where it has one.
    chain: OwnChain | None

    def __init__(
        self,
        path: Path,
        keys: WalletKeys,
        relay_url: str,
        *,
        policy: Policy | None = None,
        approve: Approve | None = None,
        token: str | None = None,
        on_frame: OnFrame | None = None,
        chain: str | None = None,
        chain_patience: float = 60.0,
        chain_interval: float = 10.0,
        funder: Funder | None = None,
        reconnect: bool = True,
        reconnect_backoff: Backoff = _RECONNECT,
        device: DeviceKeys | None = None,
    ) -> None:
        self._path = path
        self._keys = keys
        self._relay_url = relay_url
        self._policy = policy or Policy()
        self._approve = approve
        self._token = token
        self._on_frame = on_frame
        self._chain_url = chain
        self._chain_patience = chain_patience
        self._chain_interval = chain_interval
        self._funder = funder
        self._reconnect = reconnect
        self._reconnect_backoff = reconnect_backoff
        self._device = device
        self._held = HeldOpenings(files.record_path(path))
        #: Questions that came, by id, until it is known what became of them.
        self._asked: dict[str, Request] = {}
        #: Who is being connected to, by node id.
        self._reconnecting: dict[bytes, asyncio.Task[None]] = {}
        self._errands: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self.record = await stack.enter_async_context(
                Record(files.record_path(self._path), self._keys.node_id)
            )
            self.chain = await self._open_chain(stack)
            signer = KeySigner(
                self._keys,
                self._policy,
                self.record,
                self._approve,
                chain=self.chain,
                funder=self._funder,
            )
            self.client = await stack.enter_async_context(
                Wallet(
                    self._relay_url,
                    self._device or self._keys,
                    signer=signer,
                    token=self._token,
                    on_frame=self._on_frame,
                )
            )
            self.channels = await stack.enter_async_context(
                WalletChannels(
                    self.record,
                    self.client.emit,
                    self.chain,
                    watch_interval=self._chain_interval,
                )
            )
            stack.callback(self._held.close)
            moves = self.moves = signer.moves
            self.purse = Purse(moves, self.chain, self._session_with)
            moves.attach(self._tell, self.client.update_channel)
            stack.push_async_callback(moves.close)
            stack.push_async_callback(self._stop_tasks)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _open_chain(self, stack: AsyncExitStack) -> OwnChain | None:
        if self._chain_url is None:
            return None
        source = await open_source(self._chain_url)
        stack.push_async_callback(source.close)
        return OwnChain(
            source,
            patience=self._chain_patience,
            interval=min(self._chain_interval, _ASK_AGAIN),
        )

    # ---- what an owner can do ----

    async def connect(self, peer: str, init: Init | None = None) -> Session:
        """As `Wallet.connect`; where the peer is, is remembered."""
        session = await self.client.connect(peer, init)
        await self.record.remember_peer(session.peer.node_id, str(session.peer))
        return session

    async def open_channel(
        self,
        session: Session,
        funding_sat: int,
        push_msat: int = 0,
        *,
        channel_type: ChannelType | None = None,
        announce: bool = False,
        feerate_per_kw: int | None = None,
        chain: str | None = None,
        temporary_channel_id: bytes | None = None,
    ) -> bytes:
        """Offer a session's peer a channel; returns its temporary id (32 bytes), chosen or given.

        `funder` is asked when the peer has accepted. Without a `channel_type` the best that both
        support is taken; `feerate_per_kw` (satoshis a 1,000 units of weight) comes from the
        wallet's chain source, if it has one; `chain` is the source's too, else the policy's only
        one. Raises `ChannelError`, and what `Wallet.request` raises.
        """
        if self._funder is None:
            raise ChannelError("Nobody is there to pay for a channel: this wallet has no funder.")
        temporary_channel_id = temporary_channel_id or secrets.token_bytes(32)
        self._held.hold(temporary_channel_id)
        message = await offer_channel(
            Offer(
                session.peer.node_id,
                funding_sat,
                push_msat,
                channel_type,
                announce,
                feerate_per_kw,
                session.id,
                temporary_channel_id,
            ),
            chain=chain or self._only_chain(),
            features=session.features,
            keys=self._keys,
            policy=self._policy,
            record=self.record,
            source=None if self.chain is None else self.chain.source,
        )
        try:
            await self.client.open_channel(session.id, message.encode())
        except RelayError as error:
            await self.record.fail_opening(temporary_channel_id, f"the relay says: {error}")
            raise
        return temporary_channel_id

    async def give_up(self, temporary_channel_id: bytes) -> bool:
        """Fail an opening of this wallet's, here and at the peer; whether that is done now.

        Not once this wallet has signed for its funding: money may be on its way then, and only
        the peer's signature gets it back.
        """
        stored = await self.record.fail_opening(temporary_channel_id, _GIVEN_UP)
        self._held.release(temporary_channel_id)
        if stored is None:
            return False
        # Where the session is gone, so is the opening (BOLT #2).
        with suppress(KeyError, ConnectionLost, RelayError):
            session = self.client.session(stored.session_id or "")
            await session.send(Error(channel_id=temporary_channel_id, data=_GIVEN_UP.encode()))
        return True

    async def give_up_abandoned(self) -> int:
        """Give up the openings of processes that are gone, even by `kill -9`; how many there were.

        With them in the way a peer may refuse another.
        """
        count = 0
        for stored in await self.record.channels():
            if stored.role is Role.OPENER and stored.failure is None and not stored.is_committed:
                temporary_channel_id = stored.channel().temporary_channel_id
                if self._held.hold(temporary_channel_id):
                    count += await self.give_up(temporary_channel_id)
        return count

    def _only_chain(self) -> str:
        if self.chain is not None:
            return self.chain.source.chain
        if len(self._policy.chains) == 1:
            return self._policy.chains[0]
        raise ChannelError("Say on which chain: the policy allows several.")

    async def create_invoice(
        self, amount_msat: int | None, description: str = "", *, expiry: int = DEFAULT_EXPIRY
    ) -> StoredInvoice:
        """As `Purse.create_invoice`."""
        return await self.purse.create_invoice(amount_msat, description, expiry=expiry)

    async def pay(self, invoice: str, amount_msat: int | None = None) -> Payment:
        """As `Purse.pay`."""
        return await self.purse.pay(invoice, amount_msat)

    async def payments(self) -> list[Payment]:
        """As `Purse.payments`."""
        return await self.purse.payments()

    async def balances(self) -> dict[bytes, Balances]:
        """As `Purse.balances`."""
        return await self.purse.balances()

    def _session_with(self, node_id: bytes) -> str | None:
        session = self.client.session_with(node_id)
        return None if session is None or session.peer_init is None else session.id

    def _tell(self, event: Event) -> None:
        self.purse.note(event)
        self.client.emit(event)

    async def watch(self) -> AsyncGenerator[Event, None]:
        """The wallet's main loop: does what events call for, and hands each on to be shown.

        Ends with the wallet; raises the `WalletError` by which it ended.
        """
        self._run_errand(self._resume)
        self._run_errand(self._mind_fees)
        async for event in self.client.events():
            told = await self._what_happened(event)
            if told is not None:
                await self._react(told)
                yield told

    async def catch_up(self) -> None:
        """Compare the record with what the relay knows, and take what came meanwhile.

        `watch` does so whenever the relay is there (again). Raises what `Wallet.request` raises.
        """
        listed = await self._take_what_came()
        slots = await every(self.client.request, "slots", Slots, SlotInfo)
        await self.channels.compare(listed, slots)

    async def leave_slots(self, count: int, policy: SlotPolicy) -> list[SlotInfo]:
        """Leave so many key slots with the relay; raises what `slots.leave_slots` raises."""
        return await leave_slots(self.client, self.record, self._keys, self._policy, policy, count)

    # ---- what events call for ----

    async def _what_happened(self, event: Event) -> Event | None:
        """What became of a question that another process answered, from the record of both.

        Two processes with one wallet's file are one wallet; to the relay they are two devices.
        None: nothing but that both gave the same answer.
        """
        match event:
            case DelegationReceived(request):
                while len(self._asked) >= _MAX_ASKED:
                    del self._asked[next(iter(self._asked))]
                self._asked[request.delegation_id] = request
            case Answered(request):
                self._asked.pop(request.delegation_id, None)
            case Refused(delegation_id):
                self._asked.pop(delegation_id, None)
            case Voided(id=delegation_id, reason=reason) if reason.startswith(_ELSEWHERE):
                asked = self._asked.pop(delegation_id, None)
                known = await self.record.find(delegation_id)
                if asked is not None and known is not None:
                    return _outcome(asked, known)
            case Rejected(id=delegation_id, code=ErrorCode.DELEGATION_OVER.code, reason=reason):
                if reason.endswith(_ANSWERED) and await self.record.find(delegation_id):
                    return None
        return event

    async def _react(self, event: Event) -> None:
        match event:
            case MessageReceived():
                message = event.received.message
                if message is not None and event.peer is not None:
                    await self._hear(event.session_id, event.peer, event.received.raw, message)
            case DelegationReceived(request):
                # A session that is over by now has nothing to add.
                with suppress(KeyError):
                    address = self.client.session(request.session_id).peer
                    await self.record.remember_peer(address.node_id, str(address))
            case Answered(request):
                await self.channels.look(request.peer, request.channel_id)
            case Refused():
                await self.channels.look_again()
                self._run_errand(self._look_for_the_lost)
            case Reconnected():
                self._run_errand(self._resume)
            case SessionClosed():
                self._run_errand(self._look_for_the_lost)
                await self._reconnect_all()
            case Voided() | Rejected() | SessionLost():
                self._run_errand(self._look_for_the_lost)

    async def _hear(self, session_id: str, peer: bytes, raw: bytes, message: Message) -> None:
        match message:
            case ChannelReestablish():
                if await self.moves.reestablished(session_id, peer, raw, message):
                    return
            case ChannelUpdate():
                await self.purse.hear_update(peer, raw, message)
        await self.channels.received(peer, raw, message)

    async def _resume(self) -> None:
        """The relay is there (again): what came meanwhile, and whom it is no longer connected to.

        Without a channel in the record, too: it may be an old one.
        """
        try:
            await self.catch_up()
        except (ConnectionLost, RelayError) as error:
            _log.info("not_caught_up", reason=str(error))
        await self.moves.go_on()
        await self._reconnect_all()

    async def _mind_fees(self) -> None:
        """Commitments that pay too little are worth nothing when they are needed."""
        while self.chain is not None:
            await asyncio.sleep(_FEES_AGAIN)
            await self.purse.look_at_fees()

    async def _take_what_came(self) -> list[ChannelInfo]:
        """What the peers said meanwhile, and which openings the relay has lost."""
        openings = await self._openings()
        listed = await self.client.channels()
        await self.channels.catch_up(listed)
        if openings:
            sessions = {info.session_id for info in await self.client.sessions()}
            await self.channels.bury(openings, listed, sessions)
        return listed

    async def _look_for_the_lost(self) -> None:
        """Something ended, and openings with it may have."""
        if await self._openings():
            await self._take_what_came()

    async def _openings(self) -> list[StoredChannel]:
        stored = await self.record.channels()
        return [each for each in stored if each.failure is None and not each.is_signed]

    async def _reconnect_all(self) -> None:
        if not self._reconnect:
            return
        for peer, address in (await self.record.peer_addresses()).items():
            if peer not in self._reconnecting and self.client.session_with(peer) is None:
                self._reconnecting[peer] = asyncio.create_task(self._reconnect_to(peer, address))

    async def _reconnect_to(self, peer: bytes, address: str) -> None:
        try:
            await self._dial_until_connected(peer, address)
        finally:
            del self._reconnecting[peer]

    async def _dial_until_connected(self, peer: bytes, address: str) -> None:
        """Looks again after a while, too: a peer that hangs up at once isn't dialled at once."""
        retry_after = 0.0
        for attempt in itertools.count():
            await asyncio.sleep(max(self._reconnect_backoff.delay(attempt), retry_after))
            retry_after = 0.0
            try:
                # Another device may have been faster.
                await self.client.sessions()
                if self.client.session_with(peer) is not None:
                    return
                session = await self.client.connect(address)
            except (WalletError, BoltError) as error:
                if isinstance(error, RelayError) and error.retry_after is not None:
                    # A relay may not put this wallet to sleep for good.
                    retry_after = min(error.retry_after, self._reconnect_backoff.most)
                self.client.emit(PeerUnreachable(peer, str(error)))
            else:
                self.client.emit(PeerConnected(session.id, peer))

    def _run_errand(self, work: Callable[[], Awaitable[None]]) -> None:
        """Something that what happens meanwhile doesn't wait for."""

        async def run() -> None:
            try:
                await work()
            except WalletError as error:
                _log.warning("errand_failed", error=str(error))

        task = asyncio.create_task(run())
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)

    async def _stop_tasks(self) -> None:
        tasks = [*self._errands, *self._reconnecting.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _outcome(request: Request, answer: answers.Answer) -> Event:
    """What this wallet said to a question."""
    if answer.answer is None:
        return Refused(request.delegation_id, answer.refusal or "")
    said = msgspec.json.decode(answer.answer, type=ANSWERS[request.kind])
    return Answered(request, cast("Answer", said))
