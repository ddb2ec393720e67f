"""For whoever receives a webhook on a wallet's behalf: is it the relay's, for us, and of now?"""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import msgspec
from msgspec import Struct

from lightning_proxy.bolt.errors import BoltError
from lightning_proxy.bolt.keys import recover_message_signer
from lightning_proxy.rpc import WakeReason
from lightning_proxy.rpc.webhook import (
    SIGNATURE_HEADER,
    TIMESTAMP_FORMAT,
    TIMESTAMP_HEADER,
    webhook_text,
)
from lightning_proxy.wallet.errors import WalletError

#: Seconds by which a webhook's time may differ from ours; bLIP-55 has ten minutes.
_WINDOW: Final = 600.0


class WebhookRefused(WalletError):
    """It isn't a webhook of that relay's, or not one of now."""


class Wake(Struct, frozen=True):
    """What a push says."""

    reason: WakeReason
    id: str


def verify_webhook(
    relay_node_id: bytes,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    now: float | None = None,
) -> Wake:
    """What a webhook says, if this relay (33 bytes) made it for this URL, lately.

    `url` is the one that was registered, letter for letter; `headers` are looked up as given
    (aiohttp's and most others' don't mind the case). Raises `WebhookRefused`.
    """
    timestamp = headers.get(TIMESTAMP_HEADER, "")
    try:
        made = datetime.strptime(timestamp, TIMESTAMP_FORMAT).replace(tzinfo=UTC).timestamp()
        text = webhook_text(timestamp, url, body.decode("ascii"))
        signer = recover_message_signer(headers.get(SIGNATURE_HEADER, ""), text)
    except (ValueError, OverflowError, BoltError):
        raise WebhookRefused("It has no signature and time that can be read.") from None
    if signer != relay_node_id:
        raise WebhookRefused("It was not signed by that relay for this URL.")
    if abs((time.time() if now is None else now) - made) > _WINDOW:
        raise WebhookRefused("It is not of now: an old one may have been sent again.")
    try:
        return msgspec.json.decode(body, type=Wake)
    except msgspec.DecodeError:
        raise WebhookRefused("It does not say why.") from None
