"""The parameters and results of every method of the signing channel."""

from enum import StrEnum
from typing import Annotated, Any, Final, TypeAlias

from msgspec import Meta, Struct

from lightning_proxy.rpc.frames import DECODED_BYTES, LIST_BYTES, MOVES_BYTES, bytes_at_most
from lightning_proxy.rpc.integers import Amount, Count, Integers
from lightning_proxy.rpc.moves import MAX_STANDINGS, Commitment, Fence, Moves, SnapshotBytes
from lightning_proxy.rpc.words import (
    U16,
    U32,
    ActOne,
    ActThree,
    ActTwo,
    FeatureBits,
    Id,
    Key,
    Message,
    NodeId,
    PeerAddress,
    Point,
    Position,
    Script,
    Sentence,
    Signature,
    Transaction,
    Txid,
)

#: What a peer said, message by message; the relay keeps one of each type that opens a channel.
Messages = Annotated[list[Message], Meta(max_length=4)]


class SessionState(StrEnum):
    """Where a session stands."""

    HANDSHAKE = "handshake"  # act two came; the wallet owes act three and the keys
    INIT = "init"  # our `init` is sent, the peer's is awaited
    READY = "ready"
    CLOSED = "closed"


class PresencePolicy(StrEnum):
    """What becomes of a session while the wallet is away."""

    STAY = "stay"  # hold it
    DISCONNECT = "disconnect"  # close it when the wallet is needed and can't be reached in time
    ATTENDED = "attended"  # hold it only while a device is connected


class DelegationKind(StrEnum):
    """What only the wallet can answer."""

    CHANNEL_KEYS = "channel_keys"  # on open_channel
    FUNDING_CREATED = "funding_created"  # on accept_channel, where the wallet is the opener
    FUNDING_SIGNED = "funding_signed"  # on funding_created
    FUNDING_TRANSACTION = "funding_transaction"  # on funding_signed, likewise
    CHANNEL_READY = "channel_ready"  # on enough confirmations
    REESTABLISH = "reestablish"  # on a new connection, for each channel
    UNKNOWN_CHANNEL = "unknown_channel"  # on a message about a channel that the relay lacks
    COMMITMENT = "commitment"  # on what makes it the wallet's turn in a channel that moves


#: Those that wallets of 0.1 know: they can't read a list of deadlines that has others.
FIRST_KINDS: Final = frozenset(DelegationKind) - {
    DelegationKind.UNKNOWN_CHANNEL,
    DelegationKind.COMMITMENT,
}


class Challenge(Struct, frozen=True):
    """relay → wallet, first on every socket: sign this for this origin."""

    challenge: Key
    origin: Annotated[str, Meta(max_length=1024)]


class Authenticate(Struct, frozen=True):
    """wallet → relay: Lightning's signmessage over `authentication_text(origin, challenge)`.

    With `device` it is that key's, over the text that names the wallet. `integers` says how large
    ones are to come on this socket; as it writes them itself, they are read in either form.
    """

    node_id: NodeId
    signature: Annotated[str, Meta(min_length=100, max_length=110)]
    device: Point | None = None
    integers: Integers = Integers.NUMBER


class WalletSettings(Struct, frozen=True):
    """What the operator allows this wallet."""

    max_sessions: Count
    max_sockets: Count
    #: Seconds that the relay waits for the answer to a delegation, by kind; of kinds that came
    #: after the first version, each delegation says it by itself.
    deadlines: Annotated[dict[Annotated[str, Meta(max_length=32)], float], Meta(max_length=32)]
    #: Whose signature webhooks have.
    relay_node_id: NodeId | None = None
    #: For a browser's `PushManager.subscribe`; none: this relay has no Web Push.
    vapid_public_key: Annotated[str, Meta(max_length=100)] | None = None


class SessionInfo(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One BOLT 8 connection that the relay holds for a wallet."""

    session_id: Id
    peer: Annotated[str, Meta(max_length=400)]
    state: SessionState
    raw: bool = False
    presence: PresencePolicy = PresencePolicy.STAY
    created: float
    #: The number of the last message or delegation that went to the wallet; starts at 0.
    sequence: Count = 0
    init: Message | None = None
    messages_received: Count = 0
    messages_sent: Count = 0
    pings_received: Count = 0
    pongs_received: Count = 0
    gossip_dropped: Count = 0
    open_delegations: Count = 0


class Authenticated(Struct, frozen=True):
    """The result of `authenticate`."""

    node_id: NodeId
    settings: WalletSettings
    sessions: Annotated[list[SessionInfo], bytes_at_most(LIST_BYTES)]
    #: Positions are the inbox's; another one of the wallet's at this relay has another id.
    inbox: Id
    #: Whether there are more sessions than `sessions` has room for: `sessions` gives them in pages.
    more_sessions: bool = False
    #: How large integers come; a relay that is too old for the question does not say.
    integers: Integers = Integers.NUMBER


class Connect(Struct, frozen=True):
    """wallet → relay: dial this peer and hand it act one."""

    peer: PeerAddress
    act_one: ActOne


class Connected(Struct, frozen=True):
    """The result of `connect`: the wallet owes `handshake` within the relay's time limit."""

    session_id: Id
    act_two: ActTwo


class DirectionState(Struct, frozen=True):
    """One direction's transport keys: nonce 0 right after the handshake.

    The nonce counts encryptions, two a frame: even, at most 1000 (BOLT #8: the key rotates then).
    """

    key: Key
    nonce: Annotated[int, Meta(ge=0, le=1000, multiple_of=2)]
    chaining_key: Key

    def __repr__(self) -> str:
        return f"DirectionState(nonce={self.nonce})"


class Reestablish(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer to `reestablish`: what `channel_reestablish` says (BOLT #2).

    `snapshot` is how a channel that is ready stands by the wallet's record, after the old
    connection was lost (`bolt.channel.reestablish.disconnected`): the relay goes on from it.
    """

    next_commitment_number: Amount
    next_revocation_number: Amount
    your_last_per_commitment_secret: Key
    my_current_per_commitment_point: Point
    snapshot: SnapshotBytes | None = None


class ChannelStanding(Struct, frozen=True):
    """What a wallet says of one of its channels in `handshake`, as an answer to `reestablish`."""

    channel_id: Key
    standing: Reestablish


#: Those with one peer.
Standings = Annotated[
    list[ChannelStanding], Meta(max_length=MAX_STANDINGS), bytes_at_most(MOVES_BYTES)
]


class Handshake(Struct, frozen=True):
    """wallet → relay: act three, and the transport keys.

    `init` is the wallet's own choice of features and networks; without it the relay's default.
    `commitments`: this wallet answers `commitment`, so that its channels with this peer can move.
    `standings` are where they stand: about a channel that is named there the relay does not ask
    `reestablish`, but where it can't go on by that. They may be of some channels only, or of none.
    """

    session_id: Id
    act_three: ActThree
    sending: DirectionState
    receiving: DirectionState
    init: Message | None = None
    commitments: bool = False
    standings: Standings = []

    def __repr__(self) -> str:
        return f"Handshake(session_id={self.session_id!r})"


class HandshakeDone(Struct, frozen=True):
    """The result of `handshake`: the peer's `init`."""

    init: Message


class Adopt(Struct, frozen=True):
    """wallet → relay: this session, made over REST, is mine from now on."""

    session_id: Id


class Close(Struct, frozen=True):
    """wallet → relay: close the connection to this peer."""

    session_id: Id


class Send(Struct, frozen=True):
    """wallet → relay: send the peer this message as it is."""

    session_id: Id
    message: Message


class Subscribe(Struct, frozen=True):
    """wallet → relay: turn raw messages on or off; name the channels whose updates interest you."""

    session_id: Id
    raw: bool
    #: The wallet's own channels: a `channel_update` for one of them reaches the wallet.
    short_channel_ids: Annotated[list[Amount], Meta(max_length=1000)] = []


class Done(Struct, frozen=True):
    """The result of a method that returns nothing."""


class FundingSeen(Struct, frozen=True):
    """What the relay's chain source shows of a channel's funding output: its word, no proof."""

    confirmations: U32
    #: BOLT #7's `short_channel_id` as an integer; absent while unconfirmed.
    short_channel_id: Amount | None = None


class Delegate(Struct, frozen=True, kw_only=True):
    """relay → wallet: one question that only the wallet can answer.

    `messages` are what the peer said about the channel since the last settled question. The
    wallet decodes and judges them itself; `decoded` is a convenience that it must not rely on (a
    relay can lie).
    """

    id: Id
    session_id: Id
    peer: NodeId
    #: The temporary channel id until `funding_created` was said, which settles the final one.
    channel_id: Key
    kind: DelegationKind
    sequence: Count
    created: float
    #: By the relay's clock; `remaining` says the same in seconds from when this was sent.
    deadline: float
    remaining: float = 0.0
    messages: Moves
    #: Empty where it would be long.
    decoded: Annotated[list[dict[str, Any]], bytes_at_most(DECODED_BYTES)] = []
    #: With `channel_ready`, where the relay has a chain source.
    funding: FundingSeen | None = None
    #: With `commitment`: its `messages` are those that come after what the relay's `fence` has.
    fence: Fence | None = None


class ChannelKeys(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer to `channel_keys`: what `accept_channel` needs (BOLT #2)."""

    funding_pubkey: Point
    revocation_basepoint: Point
    payment_basepoint: Point
    delayed_payment_basepoint: Point
    htlc_basepoint: Point
    first_per_commitment_point: Point
    dust_limit_sat: Amount
    max_htlc_value_in_flight_msat: Amount
    channel_reserve_sat: Amount
    htlc_minimum_msat: Amount
    minimum_depth: U32
    to_self_delay: U16
    max_accepted_htlcs: U16
    channel_type: FeatureBits | None = None
    upfront_shutdown_script: Script | None = None


class FundingCreated(Struct, frozen=True, kw_only=True):
    """The answer to `funding_created`: the outpoint, and our signature for the peer's commitment.

    The funding transaction itself stays with the wallet until `funding_transaction`.
    """

    funding_txid: Txid
    funding_output_index: U16
    signature: Signature


class FundingSigned(Struct, frozen=True):
    """The answer to `funding_signed`: our signature for the peer's commitment (BOLT #2)."""

    signature: Signature


class FundingTransaction(Struct, frozen=True, omit_defaults=True):
    """The answer to `funding_transaction`: for the relay to broadcast.

    Nothing where the wallet broadcasts it by itself.
    """

    transaction: Transaction | None = None


class ChannelReady(Struct, frozen=True, omit_defaults=True):
    """The answer to `channel_ready` (BOLT #2); `alias` is a `short_channel_id` as an integer."""

    second_per_commitment_point: Point
    alias: Amount | None = None


class ChannelKnown(Struct, frozen=True):
    """The answer to `unknown_channel`: the wallet has that channel, so nothing is said of it.

    A wallet that has no such channel refuses, and the peer gets an `error` for it (BOLT #1), which
    may be its end: so only the node key may refuse; a device is `rejected` (forbidden).
    """


#: What answers a delegation of each kind.
ANSWERS: Final[dict[DelegationKind, type[Struct]]] = {
    DelegationKind.CHANNEL_KEYS: ChannelKeys,
    DelegationKind.FUNDING_CREATED: FundingCreated,
    DelegationKind.FUNDING_SIGNED: FundingSigned,
    DelegationKind.FUNDING_TRANSACTION: FundingTransaction,
    DelegationKind.CHANNEL_READY: ChannelReady,
    DelegationKind.REESTABLISH: Reestablish,
    DelegationKind.UNKNOWN_CHANNEL: ChannelKnown,
    DelegationKind.COMMITMENT: Commitment,
}
Answer: TypeAlias = (
    ChannelKeys
    | FundingCreated
    | FundingSigned
    | FundingTransaction
    | ChannelReady
    | Reestablish
    | ChannelKnown
    | Commitment
)


class OpenChannel(Struct, frozen=True):
    """wallet → relay: offer the session's peer a channel, by this `open_channel` (BOLT #2).

    What follows comes as delegations: `funding_created`, `funding_transaction`, `channel_ready`.
    """

    session_id: Id
    message: Message


class ChannelInfo(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One channel, as the relay knows it; the wallet's own record is the authority."""

    channel_id: Key
    temporary_channel_id: Key
    peer: NodeId
    #: None while there is no connection to the peer.
    session_id: Id | None = None
    #: The names of bolt/channel.py's `ChannelState`.
    state: Annotated[str, Meta(max_length=32)]
    funding: FundingSeen | None = None
    #: With the state "failed", why: the channel is not gone on with, and has to be closed.
    failure: Sentence | None = None
    #: The peer's messages that shaped the channel, in their order: what a wallet that was away
    #: has missed.
    messages: Messages


class PeerMessage(Struct, frozen=True):
    """relay → wallet: a message of the peer's, as it came.

    Numbered by session without gaps: a missing number is a message that was dropped because the
    wallet was away for too long. It comes again after a reconnection until it is acknowledged.
    """

    session_id: Id
    sequence: Count
    message: Message
    position: Position = 0


class Closed(Struct, frozen=True):
    """relay → wallet: the session is over."""

    session_id: Id
    reason: Sentence
    position: Position = 0


class Voided(Struct, frozen=True):
    """relay → wallet: this delegation needs no answer any more."""

    id: Id
    reason: Sentence
    position: Position = 0


class Rejected(Struct, frozen=True):
    """relay → wallet: that answer was not taken.

    With the code `answer_invalid` the delegation stays open, and another answer with the same id
    may follow until its deadline.
    """

    id: Annotated[str, Meta(max_length=64)]
    code: Annotated[str, Meta(max_length=64)]
    reason: Sentence
