"""What relay and wallet say of a channel that moves: the delegation `commitment`, and its like.

On each connection to the peer both count, from 0, what was said on a channel since its
`channel_reestablish` (or, on the connection on which it became ready, since `channel_ready`): the
peer's messages, that `channel_reestablish` among them, as *heard*, the wallet's as *said*. What the
relay repeats of what the wallet had said on an earlier connection is not counted again. So
whatever gets lost or comes twice between relay and wallet, both know what the other has.
"""

from typing import Annotated, Final

from msgspec import Meta, Struct

from lightning_proxy.rpc.frames import MOVES_BYTES, SNAPSHOT_BYTES, bytes_at_most
from lightning_proxy.rpc.integers import Count
from lightning_proxy.rpc.words import HEX, Id, Key, Message

#: Whole messages of a channel's, in the order of the wire.
Moves = Annotated[list[Message], bytes_at_most(MOVES_BYTES)]
#: `bolt.channel.snapshot.Snapshot`'s bytes.
SnapshotBytes = Annotated[
    str, Meta(pattern=HEX, max_length=2 * SNAPSHOT_BYTES, description="a channel's snapshot, hex")
]

#: Of the peer's messages on one channel, so many may wait for the wallet.
MAX_UNHEARD: Final = 1_000
#: Channels with one peer of which a `handshake` may say where they stand.
MAX_STANDINGS: Final = 100


class Fence(Struct, frozen=True):
    """Where the relay stands with a channel."""

    #: The numbers (48 bits) of the wallet's and of the peer's latest unrevoked commitments.
    ours: Count
    theirs: Count
    #: Of the peer's messages, those that the wallet's answers have taken.
    heard: Count
    #: Of the wallet's, those that have left for the peer.
    said: Count


class Commitment(Struct, frozen=True):
    """The answer to `commitment`: what the wallet says, in the order of the wire.

    It has then taken so many of the peer's messages. `messages` begin with the wallet's message
    that has the fence's number `said`; what the relay has of them, it passes over.
    """

    heard: Count
    messages: Moves


class UpdateChannel(Struct, frozen=True):
    """wallet → relay: move a channel of the wallet's own accord, as by an answer to `commitment`.

    `said` is the number of the first of the messages. The error `stale` says that the relay lacks
    messages before them, or has other ones: the next question shows where it stands.
    """

    session_id: Id
    channel_id: Key
    heard: Count
    said: Count
    messages: Moves
