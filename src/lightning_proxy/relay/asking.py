"""What a wallet is asked about a channel, from what the channel needs next."""

from collections.abc import Callable
from typing import Final

from lightning_proxy.bolt import messages
from lightning_proxy.bolt.channel import Channel, Need
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.errors import BoltError
from lightning_proxy.bolt.features import Features
from lightning_proxy.relay.questions import (
    ChannelKeysQuestion,
    ChannelReadyQuestion,
    FundingCreatedQuestion,
    FundingSignedQuestion,
    FundingTransactionQuestion,
    Question,
    ReestablishQuestion,
)
from lightning_proxy.rpc import ErrorCode, RpcError

_QUESTIONS: Final[dict[Need, type[Question]]] = {
    Need.ACCEPT_CHANNEL: ChannelKeysQuestion,
    Need.FUNDING_CREATED: FundingCreatedQuestion,
    Need.FUNDING_SIGNED: FundingSignedQuestion,
    Need.CHANNEL_READY: ChannelReadyQuestion,
    Need.CHANNEL_REESTABLISH: ReestablishQuestion,
}


def question_of(
    channel: Channel, broadcast: Callable[[Channel, bytes], None] | None
) -> Question | None:
    """None: nothing of the wallet's is next; `broadcast` is `FundingTransactionQuestion`'s."""
    need = channel.needs
    if need is None:
        return None
    if need is Need.FUNDING_TRANSACTION:
        return FundingTransactionQuestion(channel, broadcast)
    return _QUESTIONS[need](channel)


def unsettled(channel: Channel) -> list[bytes]:
    """What the peer said since the wallet last did."""
    said: list[bytes] = []
    for entry in reversed(channel.log):
        if entry.sender is channel.role:
            break
        said.insert(0, entry.raw)
    return said


def offered(raw: bytes, features: Features) -> Channel:
    """The channel that a wallet's own `open_channel` begins; raises `RpcError` (invalid_params)."""
    channel = Channel(Role.OPENER, features)
    try:
        message = messages.decode(raw)
        if not isinstance(message, messages.OpenChannel):
            raise RpcError(ErrorCode.INVALID_PARAMS, f"That is a message {message.NAME}.")
        channel.send(raw, message)
    except BoltError as error:
        raise RpcError(ErrorCode.INVALID_PARAMS, f"That open_channel: {error}.") from None
    return channel
