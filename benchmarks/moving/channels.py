"""Channels that are ready, made without a relay: both sides' keys, and the relay's row of each."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from coincurve import PrivateKey

from lightning_proxy.bolt.channel.begin import snapshot_of
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.relay.store import ChannelStore, Database, StoredChannel
from tests.support.moving import Mover, opened
from tests.support.opening import Side

PEER_SECRET: Final = b"\x42" * 32
PEER_NODE_ID: Final = PrivateKey(PEER_SECRET).public_key.format()
#: sat; the peer opens, and all of it is the peer's.
_CAPACITY: Final = 16_000_000
#: Of both sides.
_BOUNDS: Final = {
    "max_htlc_value_in_flight_msat": 1000 * _CAPACITY,
    "channel_reserve_satoshis": 160_000,
}
#: msat; above every dust limit, so that each payment has a transaction of its own to sign.
AMOUNT_MSAT: Final = 1_000_000


@dataclass(frozen=True)
class Channel:
    """One of one wallet, whose node key (32 bytes) is `secret`."""

    secret: bytes
    sides: dict[Role, Side]

    @property
    def channel_id(self) -> bytes:
        return self.sides[Role.OPENER].channel.channel_id

    def mover(self, role: Role) -> Mover:
        side = self.sides[role]
        return Mover(side.keys, snapshot_of(side.channel))

    @property
    def wallet(self) -> bytes:
        """The wallet's node id."""
        return PrivateKey(self.secret).public_key.format()


def ready(count: int) -> list[Channel]:
    """So many, each of a wallet of its own, with option_anchors."""
    return [
        Channel(
            sha256(b"wallet" + struct.pack(">I", number)).digest(),
            opened(
                {
                    "max_htlc_value_in_flight_msat": 1000 * _CAPACITY,
                    "channel_reserve_satoshis": 160_000,
                },
                funding_satoshis=_CAPACITY,
                push_msat=0,
                max_htlc_value_in_flight_msat=1000 * _CAPACITY,
                channel_reserve_satoshis=160_000,
            ),
        )
        for number in range(count)
    ]


async def store(channels: Iterable[Channel], path: Path) -> None:
    """Write what a relay that had them opened would have left."""
    async with Database(str(path)) as database:
        rows = ChannelStore(database)
        for each in channels:
            opening = each.sides[Role.ACCEPTER].channel
            await rows.save(
                StoredChannel(
                    each.wallet,
                    each.channel_id,
                    PEER_NODE_ID,
                    Role.ACCEPTER,
                    opening.features,
                    tuple(opening.log),
                )
            )


def preimage_of(channel_id: bytes, htlc_id: int) -> bytes:
    """Of the payment with this HTLC: both ends know it, as if there had been an invoice."""
    return sha256(channel_id + struct.pack(">Q", htlc_id)).digest()
