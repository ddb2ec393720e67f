"""Lists in bytes that fit: what is left out, and pages while the list changes."""

from msgspec import Struct

from lightning_proxy.api.lists import Fitting, listed
from lightning_proxy.rpc import LIST_BYTES, PAGE_GOAL, Listing, Page


class Item(Struct, frozen=True):
    id: str
    filler: str = ""


def items(*sizes: int) -> list[Item]:
    """So many, their ids in the order of their places; the JSON of each has so many bytes."""
    empty = len('{"id":"0000","filler":""},')
    return [Item(f"{number:04x}", "f" * (size - empty)) for number, size in enumerate(sizes)]


def test_all_in_their_order_where_all_fit() -> None:
    kept = Fitting[Item](300)
    wanted = items(100, 50, 150)
    for each in wanted:
        kept.put(each)
    assert kept.items == wanted
    assert kept.is_complete


def test_the_smallest_where_not_all_fit() -> None:
    kept = Fitting[Item](299)
    wanted = items(100, 150, 50, 300)
    for each in wanted:
        kept.put(each)
    assert kept.items == [wanted[0], wanted[1], wanted[2]][::2]
    assert not kept.is_complete


def test_without_limit_and_after_it_is_a_list() -> None:
    wanted = items(*[LIST_BYTES // 3] * 4)
    assert listed(Listing(), wanted, Page[Item], "id") == wanted[:3]


def page(all_of_them: list[Item], limit: int | None = None, after: str | None = "") -> Page[Item]:
    found = listed(Listing(limit=limit, after=after), all_of_them, Page[Item], "id")
    assert isinstance(found, Page)
    return found


def test_pages_by_count_and_by_bytes() -> None:
    wanted = items(100, 100, 100)
    assert page(wanted, 2) == Page(wanted[:2], "0001")
    assert page(wanted, 2, "0001") == Page(wanted[2:])
    assert page(wanted, 3) == Page(wanted)
    assert page([]) == Page([])
    large = items(PAGE_GOAL // 2, PAGE_GOAL // 2, 100, 2 * PAGE_GOAL)
    assert page(large) == Page(large[:2], "0001")
    assert page(large, after="0001") == Page(large[2:3], "0002")
    assert page(large, after="0002") == Page(large[3:])


def test_what_comes_and_goes_between_pages() -> None:
    wanted = items(*[100] * 6)
    first = page(wanted[1:], 2)
    assert [each.id for each in first.items] == ["0001", "0002"]
    # The one that the page ended with is gone, and one came that is before it.
    there = [each for each in wanted if each.id != "0002"]
    rest = page(there[::-1], 9, first.next)
    assert [each.id for each in rest.items] == ["0003", "0004", "0005"]
