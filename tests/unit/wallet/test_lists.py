"""A list, asked for page by page: from relays with pages, without, and with too many."""

from typing import Any

import pytest

from lightning_proxy.rpc import Listing, WakeTarget, WakeTargets, decode_params
from lightning_proxy.wallet import RelayMisbehaved
from lightning_proxy.wallet.lists import every


def target(number: int) -> str:
    return f'{{"target_id":"{number:032x}","kind":"webhook","host":"a.example","created":1.0}}'


def page(*numbers: int, next_: int | None = None) -> bytes:
    cursor = "" if next_ is None else f',"next":"{next_:032x}"'
    return f'{{"items":[{",".join(map(target, numbers))}]{cursor}}}'.encode()


class Relay:
    """Answers with these, one after the other; what it was asked is in `asked`."""

    def __init__(self, *answers: bytes) -> None:
        self.asked: list[tuple[str, Listing]] = []
        self._answers = iter(answers)

    async def request(self, method: str, wanted: Listing, kind: Any) -> Any:
        self.asked.append((method, wanted))
        return decode_params(next(self._answers), kind)


async def listed(relay: Relay) -> list[int]:
    found = await every(relay.request, "wake_targets", WakeTargets, WakeTarget)
    return [int(each.target_id, 16) for each in found]


async def test_page_by_page() -> None:
    relay = Relay(page(0, 1, next_=1), page(2, next_=2), page())
    assert await listed(relay) == [0, 1, 2]
    assert relay.asked == [
        ("wake_targets", WakeTargets(limit=100)),
        ("wake_targets", WakeTargets(limit=100, after=f"{1:032x}")),
        ("wake_targets", WakeTargets(limit=100, after=f"{2:032x}")),
    ]


async def test_a_relay_without_pages_gives_all_at_once() -> None:
    assert await listed(Relay(f"[{target(1)},{target(0)}]".encode())) == [1, 0]
    assert await listed(Relay(b"[]")) == []


@pytest.mark.parametrize("second", [page(1, next_=1), page(0, next_=0), page(next_=2)])
async def test_a_list_that_does_not_end(second: bytes) -> None:
    with pytest.raises(RelayMisbehaved, match="does not end"):
        await listed(Relay(page(1, next_=1), second))
