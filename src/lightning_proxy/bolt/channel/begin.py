"""The snapshot that a channel's opening ends with."""

from lightning_proxy.bolt.channel.opening import Channel
from lightning_proxy.bolt.channel.snapshot import SideState, SignedCommitment, Snapshot
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.messages import CommitmentSigned


def snapshot_of(channel: Channel) -> Snapshot:
    """Of a channel that both have signed; raises `UnexpectedMessage` for another.

    From `channel_ready` on it knows that side's second point.
    """
    created = channel.funding_created

    def side(role: Role) -> SideState:
        ready = channel.channel_ready(role)
        opened = channel.open_channel if role is Role.OPENER else channel.accept_channel
        signed = CommitmentSigned(
            channel_id=channel.channel_id,
            signature=channel.signatures[role.other],
            htlc_signature=(),
        )
        return SideState(
            SignedCommitment(
                channel.commitments[role].state,
                opened.first_per_commitment_point,
                signed.encode(),
                0,
            ),
            b"" if ready is None else ready.second_per_commitment_point,
        )

    return Snapshot(
        role=channel.role,
        features=channel.features.to_bytes(),
        open_channel=channel.open_channel.encode(),
        accept_channel=channel.accept_channel.encode(),
        funding_txid=created.funding_txid,
        funding_output_index=created.funding_output_index,
        opener=side(Role.OPENER),
        accepter=side(Role.ACCEPTER),
    )
