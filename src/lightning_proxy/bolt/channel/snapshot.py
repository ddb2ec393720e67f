"""A channel's whole state as data (design: `Snapshot`), without a secret of the wallet's.

Both sides look alike in it, so the same rules hold for what either of them says: `take` in
`normal.py` takes a message of the one as it takes one of the other.

An update (`update_*`) goes through four stages after it was said, by messages of its sender (S) and
of the other side (O), and then is part of both commitments for good (BOLT #2, "Normal Operation"):

    proposed → [S: commitment_signed] → signed → [O: revoke_and_ack] → acked
             → [O: commitment_signed] → countersigned → [S: revoke_and_ack] → irrevocable
"""

from typing import Final

import msgspec
from msgspec import Struct, structs

from lightning_proxy.bolt.commitment import CommitmentState, Role

#: Of the form in which snapshots are stored.
VERSION: Final = 1


class Changes(Struct, frozen=True, array_like=True):
    """One side's updates by stage, each as it was on the wire and in its order."""

    proposed: tuple[bytes, ...] = ()
    signed: tuple[bytes, ...] = ()
    acked: tuple[bytes, ...] = ()
    countersigned: tuple[bytes, ...] = ()

    @property
    def pending(self) -> tuple[bytes, ...]:
        """All of them."""
        return self.proposed + self.signed + self.acked + self.countersigned


class SignedCommitment(Struct, frozen=True, array_like=True):
    """A commitment of this side's, as the other side signed it."""

    state: CommitmentState
    #: The owner's per-commitment point for it (33 bytes).
    point: bytes
    #: The other side's `commitment_signed`, as it was on the wire; for the first commitment one
    #: with the signature of `funding_created` or `funding_signed`; empty for a revoked one's
    #: successor that the peer owns, which nobody here has a use for.
    commitment_signed: bytes
    #: The number of the signer's own commitment when it signed: what tells whether the
    #: `commitment_signed` left before or after its `revoke_and_ack`.
    signed_at: int


class SideState(Struct, frozen=True, array_like=True):
    """One side of a channel: its commitments, what it said, what it revoked."""

    #: The latest that is not revoked.
    commitment: SignedCommitment
    #: Its per-commitment point (33 bytes) for the number after the latest commitment's; empty
    #: until `channel_ready`.
    next_point: bytes = b""
    #: Signed by the other side; this side's `revoke_and_ack` for the one before is not yet said.
    unrevoked: SignedCommitment | None = None
    changes: Changes = Changes()
    next_htlc_id: int = 0
    #: The last `revoke_and_ack`, as it was on the wire.
    revocation: bytes = b""
    #: `SecretsStore`'s bytes: all that this side has revoked with, at most 1862 bytes.
    secrets: bytes = b""

    @property
    def latest(self) -> SignedCommitment:
        """What the other side has signed last."""
        return self.unrevoked or self.commitment


class Snapshot(Struct, frozen=True, kw_only=True):
    """One channel, seen by the node that has this `role` in it, from the funding on.

    Its size depends on what is under way, never on what went through it.
    """

    version: int = VERSION
    role: Role
    #: Those both nodes supported when the channel was opened.
    features: bytes
    #: Both as they were on the wire: each side's keys and limits.
    open_channel: bytes
    accept_channel: bytes
    funding_txid: bytes
    funding_output_index: int
    opener: SideState
    accepter: SideState
    #: None on the connection on which the channel began; else who has said its
    #: `channel_reestablish` on this one.
    reestablished: tuple[Role, ...] | None = None

    def side(self, role: Role) -> SideState:
        return self.opener if role is Role.OPENER else self.accepter

    @property
    def ours(self) -> SideState:
        return self.side(self.role)

    @property
    def theirs(self) -> SideState:
        return self.side(self.role.other)

    def with_side(self, role: Role, side: SideState) -> "Snapshot":
        return structs.replace(self, **{role.value: side})

    # ---- what comes next ----

    @property
    def owes_revocation(self) -> bool:
        """Whether the peer's `commitment_signed` waits for our `revoke_and_ack`."""
        return self.ours.unrevoked is not None

    @property
    def may_commit(self) -> bool:
        """Whether we may say `commitment_signed`: something is new, and nothing is unrevoked.

        What we owe comes first: a signature that left before our `revoke_and_ack` would be
        forgotten with the `commitment_signed` that this one was not said for.
        """
        return (
            self.theirs.unrevoked is None
            and not self.owes_revocation
            and bool(self.ours.changes.proposed or self.theirs.changes.acked)
        )

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is under way: both commitments say the same, and no HTLC is in them."""
        return not (
            self.opener.changes.pending
            or self.accepter.changes.pending
            or self.opener.unrevoked
            or self.accepter.unrevoked
            or self.opener.commitment.state.htlcs
        )

    # ---- the disk ----

    def encode(self) -> bytes:
        return _encoder.encode(self)

    @staticmethod
    def decode(data: bytes) -> "Snapshot":
        """Raises `ValueError` for bytes that are none, or another version's."""
        try:
            snapshot = _decoder.decode(data)
        except msgspec.DecodeError as error:
            raise ValueError(f"these bytes are no snapshot: {error}") from None
        if snapshot.version != VERSION:
            raise ValueError(f"a snapshot of version {snapshot.version} can't be read here")
        return snapshot


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Snapshot)
