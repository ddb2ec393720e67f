"""One side of a channel's opening, by hand: its keys, its own state machine, each message of its.

It plays a peer as well as a wallet; what it sends is right, for a test to send or to spoil.
"""

import secrets
from dataclasses import asdict
from typing import Any

import msgspec

from lightning_proxy import rpc
from lightning_proxy.bolt.channel import Channel
from lightning_proxy.bolt.commitment import CommitmentState, Htlc, Role, build_commitment
from lightning_proxy.bolt.features import DEFAULT_FEATURES
from lightning_proxy.bolt.messages import (
    AcceptChannel,
    ChannelReady,
    FundingCreated,
    FundingSigned,
    Message,
    OpenChannel,
)
from lightning_proxy.bolt.signing import UnsignedTransaction
from lightning_proxy.wallet import WalletKeys
from tests.support.channels import channel_keys, open_channel


class Side:
    """`role`'s side of one channel; `say` and `hear` keep its own state machine up to date."""

    def __init__(self, role: Role) -> None:
        self.keys = WalletKeys.generate().channel(0)
        self.points = asdict(self.keys.points())
        self.channel = Channel(role, DEFAULT_FEATURES)

    def say(self, message: Message) -> bytes:
        raw = message.encode()
        self.channel.send(raw, message)
        return raw

    def hear(self, raw: bytes) -> None:
        self.channel.receive(raw)

    @property
    def signature(self) -> bytes:
        """Ours, for the other side's first commitment."""
        return self.sign(self.channel.commitments[self.channel.role.other].unsigned)

    def sign(self, unsigned: UnsignedTransaction) -> bytes:
        return unsigned.sign(self.keys.funding_secret)

    # ---- the opener's ----

    def open_channel(self, **changes: Any) -> OpenChannel:
        return open_channel(**{**self.points, **changes})

    def funding_created(self, txid: bytes | None = None, index: int = 0) -> FundingCreated:
        """Of this outpoint; a made-up one, if nothing is said."""
        created = FundingCreated(
            temporary_channel_id=self.channel.temporary_channel_id,
            funding_txid=txid or secrets.token_bytes(32),
            funding_output_index=index,
            signature=bytes(64),
        )
        unsigned = self.channel.commitments_of(created)[Role.ACCEPTER].unsigned
        return msgspec.structs.replace(created, signature=self.sign(unsigned))

    # ---- the accepter's ----

    def channel_keys(self, **changes: Any) -> dict[str, Any]:
        """The answer to `channel_keys`."""
        points = {name: point.hex() for name, point in self.points.items()}
        return channel_keys(**{**points, "minimum_depth": 1, **changes})

    def accept_channel(self, **changes: Any) -> AcceptChannel:
        keys = msgspec.convert(self.channel_keys(), rpc.ChannelKeys)
        values: dict[str, Any] = {
            "temporary_channel_id": self.channel.temporary_channel_id,
            "dust_limit_satoshis": keys.dust_limit_sat,
            "max_htlc_value_in_flight_msat": keys.max_htlc_value_in_flight_msat,
            "channel_reserve_satoshis": keys.channel_reserve_sat,
            "htlc_minimum_msat": keys.htlc_minimum_msat,
            "minimum_depth": keys.minimum_depth,
            "to_self_delay": keys.to_self_delay,
            "max_accepted_htlcs": keys.max_accepted_htlcs,
            "upfront_shutdown_script": b"",
            "channel_type": self.channel.open_channel.channel_type,
            **self.points,
        }
        return AcceptChannel(**{**values, **changes})

    def funding_signed(self) -> FundingSigned:
        return FundingSigned(channel_id=self.channel.channel_id, signature=self.signature)

    # ---- both's ----

    def channel_ready(self, alias: int | None = None) -> ChannelReady:
        return ChannelReady(
            channel_id=self.channel.channel_id,
            second_per_commitment_point=self.keys.per_commitment_point(1),
            short_channel_id=alias,
        )

    def first_payment(self, channel: Channel) -> bytes:
        """What this side would sign for the other's second commitment, with a payment in it.

        By this channel's terms: its own view, or somebody else's.
        """
        first = channel.commitments[self.channel.role.other]
        htlc = Htlc(Role.OPENER, 0, 50_000_000, bytes(32), 500)
        state = CommitmentState(
            commitment_number=1,
            feerate_per_kw=first.state.feerate_per_kw,
            to_opener_msat=first.state.to_opener_msat - htlc.amount_msat,
            to_accepter_msat=first.state.to_accepter_msat,
            htlcs=(htlc,),
        )
        second_point = self.keys.per_commitment_point(1)
        commitment = build_commitment(first.parameters, first.owner, state, second_point)
        return commitment.unsigned.sighash()

    def confirm(self, confirmations: int = 1) -> None:
        """Let this side see the funding output on its chain."""
        channel = self.channel
        channel.observe(
            channel.funding_scriptpubkey, channel.open_channel.funding_satoshis, confirmations
        )
