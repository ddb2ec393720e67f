"""One side of a channel that moves: its keys, its snapshot, and each message that it owes."""

from functools import cache, partial
from typing import Any

from lightning_proxy.bolt.channel.begin import snapshot_of
from lightning_proxy.bolt.channel.normal import (
    CheckCommitment,
    check_signatures,
    take,
)
from lightning_proxy.bolt.channel.reestablish import (
    disconnected,
    reestablish,
    reestablish_of,
)
from lightning_proxy.bolt.channel.snapshot import Snapshot
from lightning_proxy.bolt.channel.terms import Terms, terms_of
from lightning_proxy.bolt.commitment import CommitmentState, Role
from lightning_proxy.bolt.derivation import (
    FIRST_COMMITMENT_INDEX,
    per_commitment_secret,
)
from lightning_proxy.bolt.messages import (
    ChannelReestablish,
    CommitmentSigned,
    Message,
    RevokeAndAck,
    UpdateAddHtlc,
    decode,
)
from lightning_proxy.wallet.keys import ChannelSecrets
from lightning_proxy.wallet.moving.step import commitment_signed
from tests.support.opening import Side


class Mover:
    """Says and hears; `sign` False leaves signatures empty, for machines that check none."""

    def __init__(
        self,
        keys: ChannelSecrets,
        snapshot: Snapshot,
        kept: Snapshot | None = None,
        *,
        sign: bool = True,
    ) -> None:
        self.keys = keys
        self.snapshot = snapshot
        #: What a disconnection leaves: as it was before a `commitment_signed` without our
        #: `revoke_and_ack`, which the other side then repeats, with all that came after it.
        self.kept = kept or snapshot
        self._sign = sign
        self._check: CheckCommitment = check_signatures if sign else take_any

    @property
    def role(self) -> Role:
        return self.snapshot.role

    def say(self, message: Message) -> bytes:
        raw = message.encode()
        self._become(take(self.snapshot, self.role, raw, message, check=self._check))
        return raw

    def hear(self, raw: bytes) -> tuple[bytes, ...]:
        """Take a message of the other side's; returns what goes out for it at once."""
        message = decode(raw)
        if isinstance(message, ChannelReestablish):
            resumed = reestablish(self.snapshot, self.role.other, message)
            self._become(resumed.snapshot)
            return resumed.messages
        self._become(take(self.snapshot, self.role.other, raw, message, check=self._check))
        return ()

    def _become(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        if not snapshot.owes_revocation:
            self.kept = snapshot

    # ---- its messages ----

    def add(self, amount_msat: int, payment_hash: bytes, **changes: Any) -> UpdateAddHtlc:
        fields: dict[str, Any] = {
            "channel_id": self.channel_id,
            "id": self.snapshot.ours.next_htlc_id,
            "amount_msat": amount_msat,
            "payment_hash": payment_hash,
            "cltv_expiry": 500,
            "onion_routing_packet": bytes(1366),
        }
        return UpdateAddHtlc(**{**fields, **changes})

    def commitment_signed(self) -> CommitmentSigned:
        if self._sign:
            return commitment_signed(self.snapshot, self.keys)
        return CommitmentSigned(channel_id=self.channel_id, signature=bytes(64), htlc_signature=())

    def revoke_and_ack(self) -> RevokeAndAck:
        number = self.snapshot.ours.commitment.state.commitment_number
        return RevokeAndAck(
            channel_id=self.channel_id,
            per_commitment_secret=secret_of(self.keys.per_commitment_seed, number),
            next_per_commitment_point=self.keys.per_commitment_point(number + 2),
        )

    # ---- the connection ----

    def disconnect(self) -> None:
        self._become(disconnected(self.kept))

    def reconnect(self) -> bytes:
        message = reestablish_of(self.snapshot, self.role)
        self._become(reestablish(self.snapshot, self.role, message).snapshot)
        return message.encode()

    # ---- what it is ----

    @property
    def channel_id(self) -> bytes:
        return terms_of(self.snapshot).channel_id

    @property
    def is_connected(self) -> bool:
        reestablished = self.snapshot.reestablished
        return reestablished is None or len(reestablished) == len(Role)


def movers(**changes: Any) -> dict[Role, Mover]:
    """Both sides of a channel that is ready; `sign` as `Mover`'s, the rest as `opened`'s."""
    sign = changes.pop("sign", True)
    return movers_of(opened(**changes), sign=sign)


def movers_of(sides: dict[Role, Side], *, sign: bool = True) -> dict[Role, Mover]:
    """Both sides of an opening that went through, as they go on."""
    make = partial(Mover, sign=sign)
    return {role: make(side.keys, snapshot_of(side.channel)) for role, side in sides.items()}


def opened(accept: dict[str, Any] | None = None, **offer: Any) -> dict[Role, Side]:
    """Both sides of an opening that went through."""
    sides = {role: Side(role) for role in Role}
    opener, accepter = sides[Role.OPENER], sides[Role.ACCEPTER]

    def say(sender: Side, message: Message) -> None:
        raw = sender.say(message)
        (accepter if sender is opener else opener).hear(raw)

    say(opener, opener.open_channel(**offer))
    say(accepter, accepter.accept_channel(**{"minimum_depth": 1, **(accept or {})}))
    say(opener, opener.funding_created())
    say(accepter, accepter.funding_signed())
    for side in (opener, accepter):
        side.confirm()
    for side in (opener, accepter):
        say(side, side.channel_ready())
    return sides


@cache
def secret_of(seed: bytes, number: int) -> bytes:
    return per_commitment_secret(seed, FIRST_COMMITMENT_INDEX - number)


def take_any(
    terms: Terms, owner: Role, state: CommitmentState, point: bytes, message: CommitmentSigned
) -> None:
    """Signatures are another test's."""
