"""What the relay asks a wallet about a channel: one class for each kind of delegation.

Each checks the answer against the relay's own copy of the channel, which rebuilds what was signed,
and makes of it the message for the peer.
"""

from collections.abc import Callable
from typing import ClassVar, Final

from msgspec import Raw

from lightning_proxy import rpc
from lightning_proxy.bolt.channel import Channel
from lightning_proxy.bolt.errors import BoltError
from lightning_proxy.bolt.messages import (
    AcceptChannel,
    ChannelReady,
    ChannelReestablish,
    Error,
    FundingCreated,
    FundingSigned,
    Message,
)
from lightning_proxy.bolt.opening import channel_id_of
from lightning_proxy.bolt.signing import parse_transaction
from lightning_proxy.relay.live import LiveChannel
from lightning_proxy.relay.text import printable
from lightning_proxy.rpc import DelegationKind, ErrorCode, Fence, RpcError, decode_params

#: BOLT #1: an `error` or `warning` for the all-zero channel id concerns every channel.
ALL_CHANNELS: Final = bytes(32)

#: Takes the wallet's snapshot, if it gave one, and its `channel_reestablish`.
Resume = Callable[[Channel, bytes | None, ChannelReestablish], bool]

_TIMED_OUT = "the wallet did not answer in time"


class Question:
    """One question about a channel.

    `settle` raises `RpcError` (invalid_params, answer_invalid) for an answer that can't be; all
    three outcomes return the messages that the peer then gets.
    """

    kind: ClassVar[DelegationKind]
    #: Whether a no is the node key's alone to say, and no device's.
    refused_by_node_only: ClassVar[bool] = False

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.channel_id = channel.channel_id

    def moves(self) -> tuple[list[bytes], Fence] | None:
        """The peer's messages and the fence, where they are another each time that it is sent."""
        return None

    @property
    def leased_id(self) -> bytes | None:
        """The temporary id of the channel whose lease it is settled under; None: any device's."""
        return self.channel.temporary_channel_id

    def settle(self, answer: Raw) -> list[bytes]:
        """Take the wallet's answer."""
        raise NotImplementedError

    def refuse(self, reason: str) -> list[bytes]:
        """The wallet won't. What both nodes have signed for is not given up for that."""
        return []

    def expire(self) -> list[bytes]:
        """The wallet was silent."""
        return self.refuse(_TIMED_OUT)

    def _say(self, message: Message) -> list[bytes]:
        """The message, if the channel's rules allow it."""
        try:
            raw = message.encode()
            self.channel.send(raw, message)
        except BoltError as error:
            raise RpcError(
                ErrorCode.ANSWER_INVALID, f"BOLT 2 does not allow it: {error}."
            ) from None
        return [raw]


class ChannelKeysQuestion(Question):
    """On `open_channel`: the wallet's keys and limits make our `accept_channel`."""

    kind = DelegationKind.CHANNEL_KEYS

    def settle(self, answer: Raw) -> list[bytes]:
        keys = decode_params(answer, rpc.ChannelKeys)
        channel_type = keys.channel_type
        return self._say(
            accept_channel(
                keys,
                self.channel_id,
                None if channel_type is None else bytes.fromhex(channel_type),
            )
        )

    def refuse(self, reason: str) -> list[bytes]:
        return [channel_error(self.channel_id, reason)]


class FundingCreatedQuestion(Question):
    """On `accept_channel`, where the wallet opens: the outpoint and our first signature."""

    kind = DelegationKind.FUNDING_CREATED

    def settle(self, answer: Raw) -> list[bytes]:
        created = decode_params(answer, rpc.FundingCreated)
        return self._say(
            FundingCreated(
                temporary_channel_id=self.channel_id,
                funding_txid=bytes.fromhex(created.funding_txid),
                funding_output_index=created.funding_output_index,
                signature=bytes.fromhex(created.signature),
            )
        )

    def refuse(self, reason: str) -> list[bytes]:
        return [channel_error(self.channel_id, reason)]


class FundingSignedQuestion(Question):
    """On `funding_created`: our first signature."""

    kind = DelegationKind.FUNDING_SIGNED

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel)
        # As the message that it is about names the channel.
        self.channel_id = channel.temporary_channel_id

    def settle(self, answer: Raw) -> list[bytes]:
        signed = decode_params(answer, rpc.FundingSigned)
        return self._say(
            FundingSigned(
                channel_id=self.channel.channel_id, signature=bytes.fromhex(signed.signature)
            )
        )

    def refuse(self, reason: str) -> list[bytes]:
        return opening_errors(self.channel, reason)


class FundingTransactionQuestion(Question):
    """On `funding_signed`, where the wallet opens: the transaction, which `broadcast` takes.

    `broadcast` None: this relay has no chain source, and the wallet has to do it.
    """

    kind = DelegationKind.FUNDING_TRANSACTION

    def __init__(
        self, channel: Channel, broadcast: Callable[[Channel, bytes], None] | None
    ) -> None:
        super().__init__(channel)
        self._broadcast = broadcast

    def settle(self, answer: Raw) -> list[bytes]:
        transaction = decode_params(answer, rpc.FundingTransaction).transaction
        if transaction is not None:
            raw = bytes.fromhex(transaction)
            self._check(raw)
            if self._broadcast is None:
                raise RpcError(
                    ErrorCode.ANSWER_INVALID,
                    "This relay has no chain source: broadcast the transaction yourself.",
                )
            self._broadcast(self.channel, raw)
        self.channel.published()
        return []

    def _check(self, raw: bytes) -> None:
        """Whether it is the transaction that both nodes have signed commitments for."""
        try:
            txid = parse_transaction(raw).id[::-1]
        except ValueError as error:
            raise RpcError(ErrorCode.ANSWER_INVALID, f"{error}.") from None
        if txid != self.channel.funding_created.funding_txid:
            raise RpcError(ErrorCode.ANSWER_INVALID, "That is not the funding transaction.")


class ChannelReadyQuestion(Question):
    """On enough confirmations: the second point."""

    kind = DelegationKind.CHANNEL_READY

    def settle(self, answer: Raw) -> list[bytes]:
        ready = decode_params(answer, rpc.ChannelReady)
        return self._say(
            ChannelReady(
                channel_id=self.channel_id,
                second_per_commitment_point=bytes.fromhex(ready.second_per_commitment_point),
                short_channel_id=ready.alias,
            )
        )


class ReestablishQuestion(Question):
    """On a new connection: where the wallet's record of the channel stands.

    `resume` says whether the channel goes on from a snapshot, or raises `RpcError`; None: it never
    moved, and does not.
    """

    kind = DelegationKind.REESTABLISH

    def __init__(self, channel: Channel, resume: Resume | None = None) -> None:
        super().__init__(channel)
        self._resume = resume

    def settle(self, answer: Raw) -> list[bytes]:
        return self.take(decode_params(answer, rpc.Reestablish))

    def take(self, numbers: rpc.Reestablish) -> list[bytes]:
        """The same, of an answer that is read; raises `RpcError` (answer_invalid)."""
        message = ChannelReestablish(
            channel_id=self.channel_id,
            next_commitment_number=numbers.next_commitment_number,
            next_revocation_number=numbers.next_revocation_number,
            your_last_per_commitment_secret=bytes.fromhex(numbers.your_last_per_commitment_secret),
            my_current_per_commitment_point=bytes.fromhex(numbers.my_current_per_commitment_point),
        )
        snapshot = None if numbers.snapshot is None else bytes.fromhex(numbers.snapshot)
        if self._resume is not None and self._resume(self.channel, snapshot, message):
            return [message.encode()]
        return self._say(message)


class CommitmentQuestion(Question):
    """On what makes it the wallet's turn in a channel that moves.

    `take` is `LiveChannel.take`, and whatever follows from that; it raises `RpcError`.
    """

    kind = DelegationKind.COMMITMENT

    def __init__(
        self,
        channel: Channel,
        live: LiveChannel,
        take: Callable[[int, int, list[bytes]], None],
    ) -> None:
        super().__init__(channel)
        self._live = live
        self._take = take
        #: The answer goes by this, however often it is sent, and whatever is said meanwhile.
        self._fence = live.fence
        self._first = live.unheard

    def moves(self) -> tuple[list[bytes], Fence]:
        taken = self._live.heard - self._fence.heard
        return [*self._first[:taken], *self._live.unheard], self._fence

    @property
    def is_open(self) -> bool:
        """Whether there is still something to answer that the fence goes with."""
        live = self._live
        known = self._fence.heard + len(self._first)
        return live.heard <= known and (live.is_wallets_turn or live.is_wallets_gain)

    def settle(self, answer: Raw) -> list[bytes]:
        moves = decode_params(answer, rpc.Commitment)
        self._take(moves.heard, self._fence.said, [bytes.fromhex(raw) for raw in moves.messages])
        return []


class UnknownChannelQuestion(Question):
    """On a message about a channel that this relay has never heard of, or has lost."""

    kind = DelegationKind.UNKNOWN_CHANNEL
    #: It may cost a channel that another device opened, of which this one's record has nothing.
    refused_by_node_only = True

    def __init__(self, channel_id: bytes) -> None:
        # There is no channel to say anything on.
        self.channel_id = channel_id

    @property
    def leased_id(self) -> None:
        return None

    def settle(self, answer: Raw) -> list[bytes]:
        decode_params(answer, rpc.ChannelKnown)
        return []

    def refuse(self, reason: str) -> list[bytes]:
        return [channel_error(self.channel_id, reason)]

    def expire(self) -> list[bytes]:
        return []


def accept_channel(
    keys: rpc.ChannelKeys, temporary_channel_id: bytes, channel_type: bytes | None
) -> AcceptChannel:
    """The message that the wallet's answer makes."""
    script = keys.upfront_shutdown_script
    return AcceptChannel(
        temporary_channel_id=temporary_channel_id,
        dust_limit_satoshis=keys.dust_limit_sat,
        max_htlc_value_in_flight_msat=keys.max_htlc_value_in_flight_msat,
        channel_reserve_satoshis=keys.channel_reserve_sat,
        htlc_minimum_msat=keys.htlc_minimum_msat,
        minimum_depth=keys.minimum_depth,
        to_self_delay=keys.to_self_delay,
        max_accepted_htlcs=keys.max_accepted_htlcs,
        funding_pubkey=bytes.fromhex(keys.funding_pubkey),
        revocation_basepoint=bytes.fromhex(keys.revocation_basepoint),
        payment_basepoint=bytes.fromhex(keys.payment_basepoint),
        delayed_payment_basepoint=bytes.fromhex(keys.delayed_payment_basepoint),
        htlc_basepoint=bytes.fromhex(keys.htlc_basepoint),
        first_per_commitment_point=bytes.fromhex(keys.first_per_commitment_point),
        # BOLT #2: with option_upfront_shutdown_script negotiated the field has to be there,
        # and an empty one commits to nothing.
        upfront_shutdown_script=b"" if script is None else bytes.fromhex(script),
        channel_type=channel_type,
    )


def channel_error(channel_id: bytes, reason: str) -> bytes:
    """An `error` that fails this one channel."""
    return Error(channel_id=channel_id, data=printable(reason).encode("ascii")).encode()


def opening_errors(
    channel: Channel, reason: str, created: FundingCreated | None = None
) -> list[bytes]:
    """What fails a channel that is being opened; `created` is a `funding_created` that won't do.

    BOLT #1: before `funding_signed` the fundee names the temporary id. LDK knows the channel by
    its final one from `funding_created` on, and would wait for ever.
    """
    ids = [channel.temporary_channel_id, channel.channel_id]
    if created is not None:
        ids.append(channel_id_of(created.funding_txid, created.funding_output_index))
    return [channel_error(channel_id, reason) for channel_id in dict.fromkeys(ids)]
