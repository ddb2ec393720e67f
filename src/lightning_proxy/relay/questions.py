"""The `channel_keys` delegation: from a peer's `open_channel` to our `accept_channel` (BOLT #2)."""

from msgspec import Raw

from lightning_proxy.bolt.errors import BoltError
from lightning_proxy.bolt.features import Features
from lightning_proxy.bolt.messages import AcceptChannel, Error, OpenChannel
from lightning_proxy.bolt.opening import check_accept_channel
from lightning_proxy.relay.text import printable
from lightning_proxy.rpc import ChannelKeys, DelegationKind, ErrorCode, RpcError, decode_params


class ChannelKeysQuestion:
    """Asks for the wallet's keys and limits; `features` are those that both nodes offer."""

    kind = DelegationKind.CHANNEL_KEYS

    def __init__(self, message: OpenChannel, features: Features) -> None:
        self._open_channel = message
        self._features = features
        self.channel_id = message.temporary_channel_id

    def settle(self, answer: Raw) -> bytes:
        """Our `accept_channel`; raises `RpcError` (invalid_params, answer_invalid)."""
        accept = _accept_channel(self._open_channel, decode_params(answer, ChannelKeys))
        try:
            check_accept_channel(self._open_channel, accept, self._features)
            return accept.encode()
        except BoltError as error:
            raise RpcError(
                ErrorCode.ANSWER_INVALID, f"BOLT 2 does not allow it: {error}."
            ) from None

    def refuse(self, reason: str) -> bytes:
        """The wallet's reason, as an `error` for this temporary channel only."""
        return channel_error(self.channel_id, reason)

    def expire(self) -> bytes:
        """The same for silence."""
        return channel_error(self.channel_id, "the wallet did not answer in time")


def channel_error(channel_id: bytes, reason: str) -> bytes:
    """An `error` that fails this one channel."""
    return Error(channel_id=channel_id, data=printable(reason).encode("ascii")).encode()


def _accept_channel(message: OpenChannel, keys: ChannelKeys) -> AcceptChannel:
    script, channel_type = keys.upfront_shutdown_script, keys.channel_type
    return AcceptChannel(
        temporary_channel_id=message.temporary_channel_id,
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
        # BOLT #2: with option_upfront_shutdown_script negotiated the field has to be there, and
        # an empty one commits to nothing.
        upfront_shutdown_script=b"" if script is None else bytes.fromhex(script),
        channel_type=None if channel_type is None else bytes.fromhex(channel_type),
    )
