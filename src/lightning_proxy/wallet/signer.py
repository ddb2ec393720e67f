"""Who answers delegations: the `Signer` protocol, and the signer that holds keys and a policy."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Protocol, TypeAlias, TypeVar
from weakref import WeakValueDictionary

import msgspec
import structlog

from lightning_proxy import rpc
from lightning_proxy.bolt.channel import Channel
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.errors import BoltError
from lightning_proxy.bolt.features import Features
from lightning_proxy.bolt.opening import check_open_channel
from lightning_proxy.chain import BroadcastRejected, ChainError
from lightning_proxy.rpc import DelegationKind
from lightning_proxy.wallet import steps
from lightning_proxy.wallet.answers import Answer
from lightning_proxy.wallet.confirmations import OwnChain
from lightning_proxy.wallet.errors import FundingError, WalletError
from lightning_proxy.wallet.funding import Funder, FundingWanted, read_funding
from lightning_proxy.wallet.keys import WalletKeys
from lightning_proxy.wallet.moving.moves import Moves
from lightning_proxy.wallet.policy import Policy
from lightning_proxy.wallet.record import Ledger, MakeAnswer, Record, StoredChannel
from lightning_proxy.wallet.request import (
    ChannelKeysRequest,
    ChannelReadyRequest,
    CommitmentRequest,
    FundingCreatedRequest,
    FundingSignedRequest,
    FundingTransactionRequest,
    LeftOpen,
    ReestablishRequest,
    Refusal,
    Request,
    UnknownChannelRequest,
    chain_of,
)
from lightning_proxy.wallet.slots import take_used

#: Asked when the policy says "by hand": yes or no, at leisure.
Approve: TypeAlias = Callable[[ChannelKeysRequest], Awaitable[bool]]

_log = structlog.get_logger()

_DAY: Final = 86_400.0

T = TypeVar("T")


class Signer(Protocol):
    """One method for each kind of delegation.

    The same delegation may come again after a connection broke: a signer stores its answer before
    it returns, and returns the same one each time. It raises `Refusal` to say no and `LeftOpen`
    for what another device is to answer; any other exception leaves the delegation open as well,
    and is logged.
    """

    async def channel_keys(self, request: ChannelKeysRequest) -> rpc.ChannelKeys:
        """The keys and limits for a channel that a peer wants to open."""

    async def funding_signed(self, request: FundingSignedRequest) -> rpc.FundingSigned:
        """The signature for the first commitment of the peer who opens."""

    async def funding_created(self, request: FundingCreatedRequest) -> rpc.FundingCreated:
        """The funding outpoint, and the signature for the accepting peer's first commitment."""

    async def funding_transaction(
        self, request: FundingTransactionRequest
    ) -> rpc.FundingTransaction:
        """The funding transaction, where the relay is to broadcast it."""

    async def channel_ready(self, request: ChannelReadyRequest) -> rpc.ChannelReady:
        """The second point, for a funding transaction that is deep enough."""

    async def reestablish(self, request: ReestablishRequest) -> rpc.Reestablish:
        """Where the wallet's record of the channel stands."""

    async def standings(self, session_id: str, peer: bytes) -> list[rpc.ChannelStanding]:
        """Where the channels with this peer (node id) stand, for `handshake`: those that are not
        among them are asked about.
        """

    async def commitment(self, request: CommitmentRequest) -> rpc.Commitment:
        """What the wallet says in a channel that moves."""

    async def unknown_channel(self, request: UnknownChannelRequest) -> rpc.ChannelKnown:
        """Whether this wallet has a channel that the relay doesn't: if not, a `Refusal`.

        The refusal fails the channel at the peer, so that it gets its money out (BOLT #1).
        """

    async def slot_used(self, used: rpc.SlotUsed, features: Features) -> str | None:
        """A channel was accepted with an answer that this wallet left.

        Returns None once it is in the record, or why it is not: then it gets no signature either.
        """


async def ask(signer: Signer, request: Request) -> rpc.Answer:
    """Put a request of any kind to a signer; raises what its method raises."""
    # A method has its kind's name. A signer that was written for an earlier version lacks some.
    method = getattr(signer, request.kind.value, None)
    if method is None:
        raise LeftOpen
    answer: rpc.Answer = await method(request)
    return answer


async def standings(
    signer: Signer | None, session_id: str, peer: bytes
) -> list[rpc.ChannelStanding]:
    """What a signer says of its channels before it is asked; nothing, where it can't."""
    method = getattr(signer, "standings", None)
    if method is None:
        return []
    try:
        said: list[rpc.ChannelStanding] = await method(session_id, peer)
    except WalletError as error:
        _log.error("standings_not_read", error=str(error))
        return []
    return said


def can_move(signer: Signer | None) -> bool:
    """Whether this signer answers for channels that move; an earlier version's doesn't."""
    return getattr(signer, DelegationKind.COMMITMENT.value, None) is not None


class KeySigner:
    """Checks every question against BOLT 2, the policy, the record and, where it has one, a chain.

    `approve` is asked about channels where the policy wants that, `funder` for the funding of
    channels that this wallet opens, `chain` before `channel_ready`. Every method raises `Refusal`
    and `RecordError`. Raises `ValueError` for a policy that wants approval by hand without
    somebody to ask.
    """

    def __init__(
        self,
        keys: WalletKeys,
        policy: Policy,
        record: Record,
        approve: Approve | None = None,
        *,
        chain: OwnChain | None = None,
        funder: Funder | None = None,
    ) -> None:
        if policy.approve_by_hand and approve is None:
            raise ValueError("the policy wants approval by hand, and nobody is there to ask")
        self._keys = keys
        self._policy = policy
        self._record = record
        self._approve = approve
        self._chain = chain
        self._funder = funder
        #: The channels that move.
        self.moves = Moves(keys, policy, record, chain)
        #: So that the owner is asked for money once a channel, by its temporary id.
        self._funding: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()

    async def channel_keys(self, request: ChannelKeysRequest) -> rpc.ChannelKeys:
        """Fresh keys, stored before they are returned."""

        async def judge() -> MakeAnswer:
            if not await self._was_accepted(request):
                await self._judge(request)
            return partial(steps.accept, request=request, keys=self._keys, policy=self._policy)

        return await self._answer(request, judge, rpc.ChannelKeys)

    async def funding_signed(self, request: FundingSignedRequest) -> rpc.FundingSigned:
        """Our signature, if the peer's holds for our commitment as the record makes it."""

        async def judge() -> MakeAnswer:
            return partial(steps.sign_funding, request=request, keys=self._keys)

        return await self._answer(request, judge, rpc.FundingSigned)

    async def funding_created(self, request: FundingCreatedRequest) -> rpc.FundingCreated:
        """Takes the peer's limits, asks for the money, and signs; the money stays here for now."""

        async def judge() -> MakeAnswer:
            funding = await self._fund(request)
            return partial(steps.create_funding, request=request, keys=self._keys, funding=funding)

        lock = self._funding.setdefault(request.channel_id, asyncio.Lock())
        async with lock:
            return await self._answer(request, judge, rpc.FundingCreated)

    async def funding_transaction(
        self, request: FundingTransactionRequest
    ) -> rpc.FundingTransaction:
        """Broadcasts the transaction, or gives it to the relay, once both have signed."""

        async def judge() -> MakeAnswer:
            return partial(steps.release_funding, request=request, to_relay=self._chain is None)

        answer = await self._answer(request, judge, rpc.FundingTransaction)
        # Only now: what makes it safe is on the disk. Another process of this wallet's, without a
        # chain, may have given it to the relay: twice doesn't hurt.
        if self._chain is not None:
            await self._broadcast(request, self._chain)
        return answer

    async def channel_ready(self, request: ChannelReadyRequest) -> rpc.ChannelReady:
        """The second point, once the funding is as deep as was agreed."""

        async def judge() -> MakeAnswer:
            seen = await self._wait_for_funding(request)
            return partial(steps.make_ready, request=request, keys=self._keys, seen=seen)

        return await self._answer(request, judge, rpc.ChannelReady)

    async def reestablish(self, request: ReestablishRequest) -> rpc.Reestablish:
        """Where the record stands."""

        try:
            moving = await self.moves.reestablish(request)
        except BoltError as error:
            raise Refusal(str(error)) from None
        if moving is not None:
            return moving

        async def judge() -> MakeAnswer:
            return partial(steps.reestablish, request=request)

        return await self._answer(request, judge, rpc.Reestablish)

    async def standings(self, session_id: str, peer: bytes) -> list[rpc.ChannelStanding]:
        """By the record."""
        return await self.moves.standings(session_id, peer)

    async def commitment(self, request: CommitmentRequest) -> rpc.Commitment:
        """One step of the channel, stored whole before any of it is returned."""
        try:
            return await self.moves.answer(request)
        except BoltError as error:
            raise Refusal(str(error)) from None

    async def unknown_channel(self, request: UnknownChannelRequest) -> rpc.ChannelKnown:
        """By the record."""

        async def judge() -> MakeAnswer:
            return partial(steps.know, request=request)

        return await self._answer(request, judge, rpc.ChannelKnown)

    async def slot_used(self, used: rpc.SlotUsed, features: Features) -> str | None:
        """Checks all that the relay says, and puts the channel in the record if it holds."""
        return await take_used(self._record, self._policy, used, features)

    # ---- all kinds ----

    async def _answer(
        self, request: Request, judge: Callable[[], Awaitable[MakeAnswer]], kind: type[T]
    ) -> T:
        """What was answered before, else what `judge` makes of it; stored in either case."""
        answer = await self._record.find(request.delegation_id)
        if answer is None:
            try:
                answer = await self._record.answer(request, await judge())
            except BoltError as error:
                answer = await self._record.refuse(request, str(error))
            except Refusal as refusal:
                answer = await self._record.refuse(request, refusal.reason)
        return _repeat(answer, request, kind)

    # ---- channel_keys ----

    async def _was_accepted(self, request: ChannelKeysRequest) -> bool:
        """Whether this very `open_channel` has its keys: what was said stays said."""

        def look(ledger: Ledger) -> bool:
            return ledger.opening(request.peer, Role.ACCEPTER, request.channel_id) is not None

        return await self._record.change(look)

    async def _judge(self, request: ChannelKeysRequest) -> None:
        check_open_channel(request.open_channel, request.features)
        self._policy.check(request)
        if self._chain is not None:
            self._chain.check_chain(request.chain)
        accepted = await self._record.channels_since(time.time() - _DAY)
        if accepted >= self._policy.max_channels_a_day:
            raise Refusal("this node accepts no more channels today")
        if (
            self._policy.approve_by_hand
            and self._approve is not None
            and not await self._approve(request)
        ):
            raise Refusal("the owner of this node declined the channel")

    # ---- funding_created, funding_transaction ----

    async def _fund(self, request: FundingCreatedRequest) -> steps.Funding | None:
        """The owner's funding transaction; None where the record has it."""
        stored = await self._record.change(
            partial(steps.hear_accept_channel, request=request, policy=self._policy)
        )
        if stored.funding_transaction is not None:
            return None
        if self._funder is None:
            raise LeftOpen
        channel = stored.channel()
        opened = channel.open_channel
        wanted = FundingWanted(
            channel.funding_scriptpubkey,
            opened.funding_satoshis,
            chain_of(opened),
            stored.peer,
            channel.temporary_channel_id,
        )
        try:
            return read_funding(await self._funder.fund(wanted), wanted)
        except FundingError as error:
            raise Refusal(f"the funding transaction won't do: {error}") from None

    async def _broadcast(self, request: FundingTransactionRequest, chain: OwnChain) -> None:
        stored, _ = await self._funded(request)
        assert stored.funding_transaction is not None  # noqa: S101 - it was answered about
        try:
            await chain.broadcast(stored.funding_transaction)
        except BroadcastRejected as error:
            raise Refusal(f"the funding transaction was rejected: {error}") from None
        except ChainError as error:
            raise Refusal(f"the funding transaction can't be broadcast now: {error}") from None

    # ---- channel_ready ----

    async def _wait_for_funding(self, request: ChannelReadyRequest) -> steps.Seen | None:
        """What is believed about the funding output; None where nothing has to be."""
        _, channel = await self._funded(request)
        if channel.channel_ready(channel.role) is not None:
            return None
        steps.check_signed(channel)
        depth = channel.accept_channel.minimum_depth
        if depth == 0:
            return None
        if self._chain is not None:
            return await self._chain.wait_until_deep(channel, request.deadline)
        if not self._policy.trust_relay_for_confirmations:
            raise Refusal(
                "this wallet has no chain source of its own, and its owner does not let it trust "
                "a relay for confirmations"
            )
        return steps.Seen(
            channel.funding_scriptpubkey,
            channel.open_channel.funding_satoshis,
            _claimed(request, channel),
        )

    async def _funded(self, request: Request) -> tuple[StoredChannel, Channel]:
        return await self._record.change(partial(steps.funded, request=request))


def _claimed(request: ChannelReadyRequest, channel: Channel) -> int:
    """The confirmations that the relay claims; without a chain source, it has the peer's word."""
    if request.funding is not None:
        return request.funding.confirmations
    if channel.channel_ready(channel.role.other) is not None:
        return channel.accept_channel.minimum_depth
    raise Refusal("neither the relay nor the peer says that the funding transaction is confirmed")


def _repeat(answer: Answer, request: Request, kind: type[T]) -> T:
    """The stored answer, if it was this very question's."""
    if answer.digest != request.digest:
        raise Refusal("this delegation's id was used before, for another question")
    if answer.answer is None:
        raise Refusal(answer.refusal or "")
    return msgspec.json.decode(answer.answer, type=kind)
