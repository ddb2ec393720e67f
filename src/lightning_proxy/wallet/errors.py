"""Every failure that a wallet's user is told of, each with a sentence that says what happened."""


class WalletError(Exception):
    """The base of all errors below."""


class ConnectionLost(WalletError):
    """The relay can't be reached, or the connection broke while something was under way."""


class OriginMismatch(WalletError):
    """The relay asked for a signature that is good for another relay; none was made."""

    def __init__(self, told: str, dialled: str) -> None:
        super().__init__(
            f"The relay calls itself {told!r}, but this wallet dialled {dialled!r}: "
            "it signs for nobody else. Dial the relay by the name that it knows."
        )
        self.told = told
        self.dialled = dialled


class RelayError(WalletError):
    """The relay said no: `code` is stable (`rpc.ErrorCode`), `sentence` says what to do.

    `retry_after`: seconds, where the relay knows when the same may succeed.
    """

    def __init__(self, code: str, sentence: str, retry_after: float | None = None) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence
        self.retry_after = retry_after


class DoorClosed(RelayError):
    """An HTTP status came in a websocket's place, from the relay or from whatever is before it.

    A proxy says the same for a relay that is being restarted: only what a relay answers to an
    authentication is its own word.
    """


class RelayMisbehaved(WalletError):
    """The relay answered with something that the contract does not allow."""


class HandshakeFailed(WalletError):
    """The peer's act two is not that of the node that was to be reached (BOLT #8)."""


class KeystoreError(WalletError):
    """The file with the keys can't be made or read."""


class WrongPassphrase(KeystoreError):
    """The passphrase does not open the file, or what it protects was changed."""


class RecordError(WalletError):
    """The wallet's record can't be made, read or written."""


class PolicyError(WalletError):
    """A policy file that can't be read."""


class FundingError(WalletError):
    """A PSBT that can't fund the channel: the sentence says what is wrong with it."""


class ChannelError(WalletError):
    """A channel can't be opened as it was asked for."""


class PaymentError(WalletError):
    """A payment can't be asked for, or made, as it was wished: nothing of it has left."""
