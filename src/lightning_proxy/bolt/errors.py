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


class UnexpectedMessage(BoltError):
    """A message that has no place in the channel's state, or isn't this sender's to send."""
