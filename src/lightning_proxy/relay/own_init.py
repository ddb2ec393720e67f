"""The `init` that the relay says for a wallet."""

from typing import NamedTuple, Self

from lightning_proxy.bolt import messages
from lightning_proxy.bolt.errors import BoltError
from lightning_proxy.bolt.features import Features
from lightning_proxy.rpc import ErrorCode, RpcError


class OwnInit(NamedTuple):
    """An `init` of the wallet's choice, or of the relay's for it: as it is sent, and what it says.

    Both of its feature maps are one here.
    """

    message: bytes
    features: Features
    networks: tuple[bytes, ...]

    @classmethod
    def read(cls, message: bytes) -> Self:
        """Raises `RpcError` (invalid_params)."""
        try:
            init = messages.decode(message)
        except BoltError as error:
            raise RpcError(ErrorCode.INVALID_PARAMS, f"That init is none: {error}.") from None
        if not isinstance(init, messages.Init):
            raise RpcError(ErrorCode.INVALID_PARAMS, f"That init is a message {init.NAME}.")
        features = Features.from_bytes(init.globalfeatures) | Features.from_bytes(init.features)
        return cls(message, features, init.networks or ())
