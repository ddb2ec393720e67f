"""A channel's state machine (BOLT #2), sans-I/O: from `open_channel` to `channel_ready`, and on.

It is fed with the raw messages of both directions and with what a chain shows, checks each, and
says what a `Signer` owes next. It holds no key and trusts neither side: the relay runs one whose
signer is the wallet, far away, and the wallet runs its own.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Final, NamedTuple, Self, TypeVar

from lightning_proxy.bolt.commitment import (
    ChannelParameters,
    Commitment,
    CommitmentState,
    Role,
    build_commitment,
)
from lightning_proxy.bolt.errors import RequirementError, UnexpectedMessage
from lightning_proxy.bolt.features import Feature, Features
from lightning_proxy.bolt.keys import is_point
from lightning_proxy.bolt.messages import (
    AcceptChannel,
    ChannelReady,
    ChannelReestablish,
    FundingCreated,
    FundingSigned,
    Message,
    OpenChannel,
    decode,
)
from lightning_proxy.bolt.opening import (
    channel_id_of,
    channel_type_of,
    check_accept_channel,
    check_open_channel,
)
from lightning_proxy.bolt.scripts import funding_script, p2wsh
from lightning_proxy.bolt.secrets_store import NO_SECRET

#: The numbers of a channel that has its first commitments only (BOLT #2, `channel_reestablish`).
_FIRST_COMMITMENT: Final = 0
_NEXT_COMMITMENT: Final = 1
_NO_REVOCATION: Final = 0

M = TypeVar("M", bound=Message)


class ChannelState(StrEnum):
    """How far a channel has come."""

    NEW = "new"  # nothing was said
    OFFERED = "offered"  # open_channel was
    ACCEPTED = "accepted"  # accept_channel was
    CREATED = "created"  # funding_created was: the accepter's commitment is signed
    SIGNED = "signed"  # funding_signed was: both are; the funding transaction has to confirm
    READY = "ready"  # channel_ready went both ways
    FORGOTTEN = "forgotten"  # the connection broke before both were signed


#: BOLT #2: what both have signed outlives its connection.
SIGNED: Final = frozenset({ChannelState.SIGNED, ChannelState.READY})


class Need(StrEnum):
    """What a channel waits for that only its `Signer` can give."""

    ACCEPT_CHANNEL = "accept_channel"
    FUNDING_CREATED = "funding_created"
    FUNDING_SIGNED = "funding_signed"
    #: The transaction itself, for the chain: `funding_signed` holds.
    FUNDING_TRANSACTION = "funding_transaction"
    CHANNEL_READY = "channel_ready"
    CHANNEL_REESTABLISH = "channel_reestablish"


class Entry(NamedTuple):
    """A message that shaped the channel, as it went over the wire."""

    sender: Role
    raw: bytes


class Channel:
    """One channel, seen by the node that has this `role` in it.

    Every method that takes something either takes it whole or raises a `BoltError` and changes
    nothing. `features` are those both nodes support: they decide the channel's type where
    `open_channel` names none. What a lost connection leaves behind is `log`, and `replay` makes
    the same channel of it.
    """

    def __init__(self, role: Role, features: Features) -> None:
        self.role = role
        self.features = features
        #: What was said, in order, without what belongs to one connection only.
        self.log: list[Entry] = []
        self.state = ChannelState.NEW
        #: Of the funding transaction, as `observe` was told last.
        self.confirmations: int | None = None
        #: Each side's first commitment transaction, by its owner.
        self.commitments: dict[Role, Commitment] = {}
        #: Each side's signature (64 bytes) for the other's commitment, by who made it.
        self.signatures: dict[Role, bytes] = {}
        self._open_channel: OpenChannel | None = None
        self._accept_channel: AcceptChannel | None = None
        self._funding_created: FundingCreated | None = None
        self._channel_ready: dict[Role, ChannelReady] = {}
        self._published = False
        #: None on the connection on which the channel began; else who has sent its
        #: `channel_reestablish` on this one.
        self._reestablished: set[Role] | None = None

    @classmethod
    def replay(cls, role: Role, features: Features, log: Iterable[Entry]) -> Self:
        """The channel that a log tells of, on the connection where it began; raises `BoltError`.

        After a connection was lost, say `disconnected` next.
        """
        channel = cls(role, features)
        for entry in log:
            channel.take(entry.sender, entry.raw)
        return channel

    # ---- what it is ----

    @property
    def open_channel(self) -> OpenChannel:
        """Raises `UnexpectedMessage` while there is none; so do the next two."""
        return self._said(self._open_channel)

    @property
    def accept_channel(self) -> AcceptChannel:
        return self._said(self._accept_channel)

    @property
    def funding_created(self) -> FundingCreated:
        return self._said(self._funding_created)

    @property
    def temporary_channel_id(self) -> bytes:
        return self.open_channel.temporary_channel_id

    @property
    def channel_id(self) -> bytes:
        """The final id (32 bytes), once there is a funding output, the temporary one before."""
        created = self._funding_created
        if created is None:
            return self.temporary_channel_id
        return channel_id_of(created.funding_txid, created.funding_output_index)

    @property
    def anchors(self) -> bool:
        """Whether its commitments have anchors."""
        return channel_type_of(self.open_channel, self.features).requires(Feature.OPTION_ANCHORS)

    @property
    def funding_script(self) -> bytes:
        """The funding output's witness script; from `accept_channel` on."""
        return funding_script_of(self.open_channel, self.accept_channel)

    @property
    def funding_scriptpubkey(self) -> bytes:
        """What the funding output pays to; from `accept_channel` on."""
        return p2wsh(self.funding_script)

    def balance_msat(self, role: Role) -> int:
        """What this side has in the channel."""
        opened = self.open_channel
        pushed = opened.push_msat
        return pushed if role is Role.ACCEPTER else 1000 * opened.funding_satoshis - pushed

    def channel_ready(self, sender: Role) -> ChannelReady | None:
        """The `channel_ready` of this side's, if it was sent."""
        return self._channel_ready.get(sender)

    @property
    def is_deep_enough(self) -> bool:
        """Whether the funding transaction has the confirmations that `accept_channel` asked for."""
        depth = self.accept_channel.minimum_depth
        return depth == 0 or (self.confirmations or 0) >= depth

    def has_heard(self, raw: bytes) -> bool:
        """Whether the peer has said just this before."""
        return any(entry.raw == raw for entry in self.log if entry.sender is not self.role)

    @property
    def may_be_funded(self) -> bool:
        """Whether the funding transaction was ever seen, as far as anybody has said or shown.

        What a chain shows now says too little: a spent output is gone, and after a restart
        nothing was looked at yet. Either side says `channel_ready` of what it has seen.
        """
        return self.confirmations is not None or bool(self._channel_ready)

    @property
    def is_nothing_to_accepter(self) -> bool:
        """Whether this side accepted it, the opener has not funded it, and nothing would be ours.

        BOLT #2: then it may be forgotten once the opener gives it up.
        """
        return (
            self.role is Role.ACCEPTER
            and not self.may_be_funded
            and self.balance_msat(Role.ACCEPTER) == 0
        )

    @property
    def needs(self) -> Need | None:
        """What only the signer can give, and is next; None: the peer, or the chain, is."""
        is_opener = self.role is Role.OPENER
        match self.state:
            case ChannelState.OFFERED if not is_opener:
                return Need.ACCEPT_CHANNEL
            case ChannelState.ACCEPTED if is_opener:
                return Need.FUNDING_CREATED
            case ChannelState.CREATED if not is_opener:
                return Need.FUNDING_SIGNED
            case ChannelState.SIGNED | ChannelState.READY:
                return self._needs_when_signed()
        return None

    def _needs_when_signed(self) -> Need | None:
        if self._reestablished is not None and self.role not in self._reestablished:
            # BOLT #2 lets nothing follow ours before the peer's came, either. But lnd keeps its
            # own back while its channel is pending, until `channel_ready` went both ways: who
            # waited for it would wait for ever.
            return Need.CHANNEL_REESTABLISH
        if self.role in self._channel_ready:
            return None
        if self.role is Role.OPENER and not self._published:
            return Need.FUNDING_TRANSACTION
        return Need.CHANNEL_READY if self.is_deep_enough else None

    def commitments_of(self, created: FundingCreated) -> dict[Role, Commitment]:
        """Each side's first commitment, by its owner, for this funding outpoint.

        For the opener, who signs one before it says `funding_created`.
        """
        opened = self.open_channel
        parameters = ChannelParameters(
            opener=opened,
            accepter=self.accept_channel,
            funding_txid=created.funding_txid,
            funding_output_index=created.funding_output_index,
            funding_satoshis=opened.funding_satoshis,
            anchors=self.anchors,
        )
        state = CommitmentState(
            commitment_number=_FIRST_COMMITMENT,
            feerate_per_kw=opened.feerate_per_kw,
            to_opener_msat=self.balance_msat(Role.OPENER),
            to_accepter_msat=self.balance_msat(Role.ACCEPTER),
        )
        return {
            owner: build_commitment(parameters, owner, state, self._first_point(owner))
            for owner in Role
        }

    def reestablish(self) -> ChannelReestablish:
        """What this side has to say on a new connection: all of it is public knowledge here."""
        return ChannelReestablish(
            channel_id=self.channel_id,
            next_commitment_number=_NEXT_COMMITMENT,
            next_revocation_number=_NO_REVOCATION,
            your_last_per_commitment_secret=NO_SECRET,
            my_current_per_commitment_point=self._first_point(self.role),
        )

    # ---- what happens to it ----

    def receive(self, raw: bytes, message: Message | None = None) -> None:
        """A message of the peer's came; raises `BoltError` if it breaks a rule.

        `message` is the same, where somebody has decoded it already.
        """
        self.take(self.role.other, raw, message or decode(raw))

    def send(self, raw: bytes, message: Message | None = None) -> None:
        """A message of this side's is about to leave; raises `BoltError` if it must not."""
        message = message or decode(raw)
        if isinstance(message, ChannelReady) and not self.is_deep_enough:
            raise UnexpectedMessage(
                f"channel_ready waits for {self.accept_channel.minimum_depth} confirmations of "
                f"the funding transaction; there are {self.confirmations or 0}"
            )
        self.take(self.role, raw, message)

    def take(self, sender: Role, raw: bytes, message: Message | None = None) -> None:
        """A message of this side's was said; raises `BoltError`."""
        message = message or decode(raw)
        match message:
            case OpenChannel():
                self._take_open_channel(sender, message)
            case AcceptChannel():
                self._take_accept_channel(sender, message)
            case FundingCreated():
                self._take_funding_created(sender, message)
            case FundingSigned():
                self._take_funding_signed(sender, message)
            case ChannelReady():
                if self._repeats_channel_ready(sender, message):
                    return
                self._take_channel_ready(sender, message)
            case ChannelReestablish():
                self._take_channel_reestablish(sender, message)
                return
            case _:
                raise UnexpectedMessage(f"{message.NAME} has no place in the opening of a channel")
        self.log.append(Entry(sender, raw))

    def observe(self, scriptpubkey: bytes, amount_sat: int, confirmations: int) -> None:
        """A chain shows the funding output; raises `RequirementError` if it isn't what was agreed.

        BOLT #2: `channel_ready` is for an output that pays exactly `funding_satoshis` to the
        funding script.
        """
        wanted = self.open_channel.funding_satoshis
        if scriptpubkey != self.funding_scriptpubkey:
            raise RequirementError("funding_txid", "the output pays to another script")
        if amount_sat != wanted:
            raise RequirementError(
                "funding_txid", f"the output is worth {amount_sat} sat, not {wanted} sat"
            )
        self.confirmations = confirmations
        self._published = True

    def unobserve(self) -> None:
        """The chain doesn't show the funding output any more: it has to be published again."""
        self.confirmations = None
        self._published = False

    def published(self) -> None:
        """The funding transaction was handed to the chain."""
        self._published = True

    def disconnected(self) -> None:
        """The connection to the peer is gone: BOLT #2 forgets what isn't signed by both."""
        if self.state in SIGNED:
            self._reestablished = set()
            self._published = self.confirmations is not None
        else:
            self.state = ChannelState.FORGOTTEN

    def has_re_established(self, sender: Role) -> bool:
        """Whether this side needs to say no `channel_reestablish` (any more) on this connection."""
        return self._reestablished is None or sender in self._reestablished

    def re_established(self, sender: Role) -> None:
        """This side's `channel_reestablish` went by a `Snapshot`, which its numbers were judged by.

        Of a channel that has moved, the opening's log knows no more.
        """
        if self._reestablished is not None:
            self._reestablished.add(sender)

    def retransmit(self) -> bytes | None:
        """Once `channel_reestablish` went both ways: the `channel_ready` to send once more.

        BOLT #2 has it repeated as long as neither side has seen a second commitment.
        """
        ready = self._channel_ready.get(self.role)
        if ready is None or self._reestablished != set(Role):
            return None
        return ready.encode()

    # ---- by message ----

    def _take_open_channel(self, sender: Role, message: OpenChannel) -> None:
        self._expect(message, sender, Role.OPENER, ChannelState.NEW)
        check_open_channel(message, self.features)
        self._open_channel = message
        self.state = ChannelState.OFFERED

    def _take_accept_channel(self, sender: Role, message: AcceptChannel) -> None:
        self._expect(message, sender, Role.ACCEPTER, ChannelState.OFFERED)
        check_accept_channel(self.open_channel, message, self.features)
        if message.funding_pubkey == self.open_channel.funding_pubkey:
            raise RequirementError("funding_pubkey", "the same for both sides")
        self._accept_channel = message
        self.state = ChannelState.ACCEPTED

    def _take_funding_created(self, sender: Role, message: FundingCreated) -> None:
        self._expect(message, sender, Role.OPENER, ChannelState.ACCEPTED)
        if message.temporary_channel_id != self.temporary_channel_id:
            raise RequirementError("temporary_channel_id", "not the one of open_channel")
        commitments = self.commitments_of(message)
        _check_signature(message, sender, commitments)
        self.commitments = commitments
        self.signatures[sender] = message.signature
        self._funding_created = message
        self.state = ChannelState.CREATED

    def _take_funding_signed(self, sender: Role, message: FundingSigned) -> None:
        self._expect(message, sender, Role.ACCEPTER, ChannelState.CREATED)
        self._check_channel_id(message.channel_id)
        _check_signature(message, sender, self.commitments)
        self.signatures[sender] = message.signature
        self.state = ChannelState.SIGNED

    def _repeats_channel_ready(self, sender: Role, message: ChannelReady) -> bool:
        """BOLT #2: it comes again after a reconnection, and with another alias."""
        known = self._channel_ready.get(sender)
        if known is None or message.channel_id != self.channel_id:
            return False
        if known.second_per_commitment_point != message.second_per_commitment_point:
            raise RequirementError("second_per_commitment_point", "not the one sent before")
        return True

    def _take_channel_ready(self, sender: Role, message: ChannelReady) -> None:
        self._expect(message, sender, sender, ChannelState.SIGNED)
        self._check_channel_id(message.channel_id)
        point = message.second_per_commitment_point
        if not is_point(point):
            raise RequirementError("second_per_commitment_point", "no point of secp256k1")
        self._channel_ready[sender] = message
        if len(self._channel_ready) == len(Role):
            self.state = ChannelState.READY

    def _take_channel_reestablish(self, sender: Role, message: ChannelReestablish) -> None:
        self._expect(message, sender, sender, ChannelState.SIGNED, ChannelState.READY)
        self._check_channel_id(message.channel_id)
        if self._reestablished is None or sender in self._reestablished:
            raise UnexpectedMessage("channel_reestablish comes once, after a reconnection")
        if message.next_commitment_number == 0:
            # LDK's way to say that it has no such channel any more, so that the other side ends it.
            raise RequirementError(
                "next_commitment_number",
                "0: the sender has lost this channel, or wants it closed by force",
            )
        # BOLT #2: these are the first commitments, and nothing was revoked.
        for field, wanted in (
            ("next_commitment_number", _NEXT_COMMITMENT),
            ("next_revocation_number", _NO_REVOCATION),
        ):
            if (number := getattr(message, field)) != wanted:
                raise RequirementError(field, f"{number}, and {wanted} is where this channel is")
        if message.your_last_per_commitment_secret != NO_SECRET:
            raise RequirementError("your_last_per_commitment_secret", "nothing was revoked yet")
        if not is_point(message.my_current_per_commitment_point):
            raise RequirementError("my_current_per_commitment_point", "no point of secp256k1")
        self._reestablished.add(sender)

    # ---- inside ----

    def _said(self, message: M | None) -> M:
        if message is None:
            raise UnexpectedMessage(f"the channel is {self.state}: that was not said yet")
        return message

    def _expect(self, message: Message, sender: Role, by: Role, *states: ChannelState) -> None:
        if self.state not in states:
            raise UnexpectedMessage(f"{message.NAME} does not come while a channel is {self.state}")
        if sender is not by:
            raise UnexpectedMessage(f"{message.NAME} is the {by.value}'s to send")

    def _check_channel_id(self, channel_id: bytes) -> None:
        if channel_id != self.channel_id:
            raise RequirementError("channel_id", "not this channel's")

    def _first_point(self, owner: Role) -> bytes:
        side = self.open_channel if owner is Role.OPENER else self.accept_channel
        return side.first_per_commitment_point


def funding_script_of(open_channel: OpenChannel, accept_channel: AcceptChannel) -> bytes:
    """The witness script of the funding output that these two agree on."""
    return funding_script(open_channel.funding_pubkey, accept_channel.funding_pubkey)


def _check_signature(
    message: FundingCreated | FundingSigned, sender: Role, commitments: dict[Role, Commitment]
) -> None:
    """The sender's signature has to hold for the other side's commitment, as rebuilt here."""
    commitment = commitments[sender.other]
    funding_pubkey = commitment.parameters.side(sender).funding_pubkey
    if not commitment.unsigned.verify(funding_pubkey, message.signature):
        raise RequirementError(
            "signature",
            f"{message.NAME} signs another first commitment than the one that open_channel and "
            "accept_channel make",
        )
