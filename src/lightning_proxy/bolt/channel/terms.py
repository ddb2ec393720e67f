"""What stays the same in a channel: each side's keys and limits, and what commitments cost."""

from dataclasses import dataclass
from functools import lru_cache

from lightning_proxy.bolt.channel.snapshot import Snapshot
from lightning_proxy.bolt.commitment import ChannelParameters, CommitmentState, Role, is_trimmed
from lightning_proxy.bolt.features import Feature, Features
from lightning_proxy.bolt.fees import anchors_sat, commitment_fee_sat
from lightning_proxy.bolt.messages import AcceptChannel, OpenChannel, decode
from lightning_proxy.bolt.opening import channel_id_of, channel_type_of

#: Channels whose terms are kept at hand; of others they are read again.
_KEPT = 4096


@dataclass(frozen=True, slots=True)
class Terms:
    """Read from a snapshot by `terms_of`."""

    opener: OpenChannel
    accepter: AcceptChannel
    parameters: ChannelParameters

    def side(self, role: Role) -> OpenChannel | AcceptChannel:
        """What this side laid down: its keys, and the limits that the *other* has to keep."""
        return self.opener if role is Role.OPENER else self.accepter

    @property
    def channel_id(self) -> bytes:
        parameters = self.parameters
        return channel_id_of(parameters.funding_txid, parameters.funding_output_index)

    @property
    def anchors(self) -> bool:
        return self.parameters.anchors

    def reserve_msat(self, role: Role) -> int:
        """What this side has to keep in the channel: the other one laid it down (BOLT #2)."""
        return 1000 * self.side(role.other).channel_reserve_satoshis

    def cost_msat(
        self, state: CommitmentState, owner: Role, *, feerate_per_kw: int, more_htlcs: int = 0
    ) -> int:
        """What the opener pays for this commitment at this feerate, with so many more HTLCs."""
        untrimmed = more_htlcs + sum(
            not is_trimmed(htlc, owner, self.parameters, feerate_per_kw) for htlc in state.htlcs
        )
        fee = commitment_fee_sat(feerate_per_kw, untrimmed, anchors=self.anchors)
        return 1000 * (fee + anchors_sat(anchors=self.anchors))


def terms_of(snapshot: Snapshot) -> Terms:
    """The terms of this channel."""
    return _terms(
        snapshot.open_channel,
        snapshot.accept_channel,
        snapshot.features,
        snapshot.funding_txid,
        snapshot.funding_output_index,
    )


@lru_cache(_KEPT)
def _terms(
    open_channel: bytes, accept_channel: bytes, features: bytes, txid: bytes, index: int
) -> Terms:
    opened, accepted = decode(open_channel), decode(accept_channel)
    if not isinstance(opened, OpenChannel) or not isinstance(accepted, AcceptChannel):
        raise TypeError("a snapshot begins with open_channel and accept_channel")
    channel_type = channel_type_of(opened, Features.from_bytes(features))
    return Terms(
        opened,
        accepted,
        ChannelParameters(
            opener=opened,
            accepter=accepted,
            funding_txid=txid,
            funding_output_index=index,
            funding_satoshis=opened.funding_satoshis,
            anchors=channel_type.requires(Feature.OPTION_ANCHORS),
        ),
    )
