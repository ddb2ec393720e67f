"""What a wallet said of its channels with a peer before it was asked: in its `handshake`."""

from collections.abc import Iterable

import structlog

from lightning_proxy.relay.devices import LeaseKey, Leases
from lightning_proxy.relay.questions import ReestablishQuestion
from lightning_proxy.rpc import ChannelStanding, RpcError

_log = structlog.get_logger()


class Given:
    """By one device (its key, 33 bytes); each is taken once."""

    def __init__(
        self, leases: Leases, device_key: bytes, standings: Iterable[ChannelStanding]
    ) -> None:
        self.device_key = device_key
        self._leases = leases
        self._by_id = {bytes.fromhex(each.channel_id): each.standing for each in standings}

    def settle(self, question: ReestablishQuestion, lease: LeaseKey) -> list[bytes] | None:
        """What the peer gets; None: the wallet has to be asked, and is told then what is wrong."""
        standing = self._by_id.pop(question.channel_id, None)
        if standing is None:
            return None
        try:
            self._leases.check(lease, self.device_key)
            messages = question.take(standing)
        except RpcError as error:
            _log.info(
                "reestablish_not_taken",
                channel_id=question.channel_id.hex(),
                reason=error.sentence,
            )
            return None
        self._leases.settled(lease, self.device_key)
        return messages
