"""Every error that the protocol's vocabulary raises, each with a sentence for the one who erred."""


class BoltError(Exception):
    """The base of all errors below."""


class MalformedMessage(BoltError):
    """Bytes that are no message, or values that no message can carry.

    `message` names the message type or the TLV namespace, `field` the field in it (for a field of
    a TLV record "record.field", for the TLV stream itself "tlvs").
    """

    def __init__(self, message: str, field: str, reason: str) -> None:
        super().__init__(message, field, reason)
        self.message = message
        self.field = field
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.message}.{self.field}: {self.reason}"


class UnknownMessage(BoltError):
    """A message of a type that the BOLTs, as read here, do not define."""

    def __init__(self, type: int) -> None:
        super().__init__(type)
        self.type = type

    def __str__(self) -> str:
        return f"message type {self.type} is unknown"


class FeatureError(BoltError):
    """A feature map that may not stand; `bit` is the one to blame."""

    def __init__(self, bit: int, reason: str) -> None:
        super().__init__(bit, reason)
        self.bit = bit
        self.reason = reason

    def __str__(self) -> str:
        return f"feature bit {self.bit}: {self.reason}"


class RequirementError(BoltError):
    """A well-formed message breaks a requirement of BOLT 2; `field` is the one to blame."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(field, reason)
        self.field = field
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.field}: {self.reason}"


class AddressError(BoltError):
    """A peer's address that can't be read; the text says what to write instead."""


class SignatureError(BoltError):
    """A `signmessage` signature that can't be read, or that no key could have made."""


class OnionError(BoltError):
    """An onion that this node can't open: an `update_fail_malformed_htlc` answers it.

    `failure_code` is what that message says, one with BADONION (`onion.FailureCode`).
    """

    def __init__(self, failure_code: int, reason: str) -> None:
        super().__init__(failure_code, reason)
        self.failure_code = failure_code
        self.reason = reason

    def __str__(self) -> str:
        return f"onion: {self.reason}"


class PayloadError(BoltError):
    """An onion that opens to a payload which may not stand: `invalid_onion_payload` answers it.

    `type` is that of the TLV record to blame, `offset` where in the payload it starts; both are 0
    where no record is to blame. `shared_secret` (32 bytes) wraps the answer where the one who
    raised this had it; it is in no text.
    """

    def __init__(
        self, type: int, offset: int, reason: str, shared_secret: bytes | None = None
    ) -> None:
        super().__init__(type, offset, reason)
        self.type = type
        self.offset = offset
        self.reason = reason
        self.shared_secret = shared_secret

    def __str__(self) -> str:
        return f"payload: {self.reason}"


class InvoiceError(BoltError):
    """A text that is no BOLT 11 invoice to pay, or values of which none can be made.

    `field` names the part that is to blame.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(field, reason)
        self.field = field
        self.reason = reason

    def __str__(self) -> str:
        return f"invoice.{self.field}: {self.reason}"


class UnexpectedMessage(BoltError):
    """A message that has no place in the channel's state, or isn't this sender's to send."""
