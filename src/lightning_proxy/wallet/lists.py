"""Lists at the relay, from the first page to the last."""

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar, cast

from msgspec import Struct

from lightning_proxy.rpc import Listing, Page
from lightning_proxy.wallet.errors import RelayMisbehaved

#: Elements of one page; the relay sees to its bytes.
_PAGE: Final = 100
#: More than any relay lets one wallet have; one that never ends must not fill our memory.
_MAX_LISTED: Final = 100_000

T = TypeVar("T", bound=Struct)


async def every(
    request: Callable[[str, Listing, Any], Awaitable[Any]],
    method: str,
    wanted: type[Listing],
    kind: type[T],
) -> list[T]:
    """All elements of a list; `request` is `Wallet.request`, whose errors it raises."""
    items: list[T] = []
    after: str | None = None
    # A relay that knows no pages gives a list, with all that there is.
    result_type = cast("Any", list)[kind] | cast("Any", Page)[kind]
    while True:
        result = await request(method, wanted(limit=_PAGE, after=after), result_type)
        if isinstance(result, list):
            return result
        items += result.items
        if result.next is None:
            return items
        if not result.items or result.next <= (after or "") or len(items) > _MAX_LISTED:
            raise RelayMisbehaved(f"The relay's list of {method} does not end.")
        after = result.next
