"""What an operator can set about waking wallets."""

from typing import Annotated

from msgspec import Meta, Struct

_Seconds = Annotated[float, Meta(gt=0, le=86_400)]
_Count = Annotated[int, Meta(ge=1, le=100_000)]


class WakeSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Times in seconds."""

    #: The file with the key that webhooks are signed with, made when it isn't there. `serve` has a
    #: place for it where this is unset; elsewhere a key is made for as long as the process lives.
    identity: str | None = None
    #: The file with the key for Web Push, as `lightning-proxy vapid` makes it; unset: no Web Push.
    vapid_key: str | None = None
    #: How push services reach the operator (RFC 8292): mailto:… or https://…
    #: Web Push needs it.
    vapid_subject: Annotated[str, Meta(pattern="^(mailto:|https://)")] | None = None
    max_targets_per_wallet: Annotated[int, Meta(ge=1, le=100)] = 8
    #: Between two pushes for one wallet; what happens meanwhile goes with the next.
    cooldown: _Seconds = 5.0
    #: A wallet that does not come is woken again after this long, twice as long after each time.
    retry_first: _Seconds = 10.0
    #: In all; then only something new wakes it.
    max_attempts: Annotated[int, Meta(ge=1, le=20)] = 5
    #: For one push, from resolving the name to the answer's end.
    timeout: _Seconds = 10.0
    #: Wallets a second; what waits on a question goes before sessions that broke.
    rate: _Count = 200
    #: Pushes under way at once.
    max_concurrent: _Count = 200
    #: Pushes to one host under way at once: a slow one must not hold up the others.
    max_concurrent_per_host: _Count = 32
