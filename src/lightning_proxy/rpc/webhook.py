"""How a webhook that wakes a wallet is signed: in the manner of bLIP-55."""

from typing import Final

#: The signature is Lightning's signmessage by the relay's key, over `webhook_text`.
TIMESTAMP_HEADER: Final = "X-Lightning-Proxy-Timestamp"
SIGNATURE_HEADER: Final = "X-Lightning-Proxy-Signature"
#: ISO 8601 in UTC, as bLIP-55 has it.
TIMESTAMP_FORMAT: Final = "%Y-%m-%dT%H:%M:%S.%fZ"


def webhook_text(timestamp: str, url: str, body: str) -> str:
    """The text to sign.

    With the URL in it, who receives it can't pass it on as if it were meant for another.
    """
    return f"lightning-proxy/v1 wake {timestamp} {url} {body}"
