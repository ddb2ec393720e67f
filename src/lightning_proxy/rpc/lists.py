"""Lists that can grow: in pages for who asks for them, else as much as one frame holds."""

from typing import Annotated, Generic, TypeVar

from msgspec import Meta, Struct

from lightning_proxy.rpc.away import DeviceInfo, SlotInfo, WakeTarget
from lightning_proxy.rpc.frames import LIST_BYTES, PAGE_BYTES, bytes_at_most
from lightning_proxy.rpc.types import ChannelInfo, SessionInfo

T = TypeVar("T")

#: An element's id: the elements of all pages are in the order of theirs.
Cursor = Annotated[str, Meta(pattern=r"^(?:[0-9a-f][0-9a-f])*$(?!\n)", max_length=66)]


class Listing(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What every list is asked by. With `limit` or `after` the result is a page.

    With neither it is a plain list, of all that fits 2 MiB: the smallest elements, where not all
    do. An element that is there from the first page to the last is in exactly one of them.
    """

    #: Of so many elements at most; there may be fewer, where they are large.
    limit: Annotated[int, Meta(ge=1, le=1000)] | None = None
    #: Behind this one: the former page's `next`.
    after: Cursor | None = None


class Sessions(Listing, frozen=True, kw_only=True, omit_defaults=True):
    """wallet → relay: list my sessions; their ids are `session_id`s."""


class Channels(Listing, frozen=True, kw_only=True, omit_defaults=True):
    """wallet → relay: list my channels; their ids are `channel_id`s."""


class WakeTargets(Listing, frozen=True, kw_only=True, omit_defaults=True):
    """wallet → relay: list where I am woken; their ids are `target_id`s."""


class Slots(Listing, frozen=True, kw_only=True, omit_defaults=True):
    """wallet → relay: list my key slots, the free ones and those used last; by `slot_id`."""


class Devices(Listing, frozen=True, kw_only=True, omit_defaults=True):
    """wallet → relay: list my devices, revoked ones too; their ids are `device_key`s."""


class Page(Struct, Generic[T], frozen=True, omit_defaults=True):
    """One page of a list."""

    items: Annotated[list[T], bytes_at_most(PAGE_BYTES)]
    #: What to ask for next, `after` this; none: this is the last page.
    next: Cursor | None = None


class SessionPage(Page[SessionInfo], frozen=True, omit_defaults=True):
    """One page of `sessions`."""


class ChannelPage(Page[ChannelInfo], frozen=True, omit_defaults=True):
    """One page of `channels`."""


class WakeTargetPage(Page[WakeTarget], frozen=True, omit_defaults=True):
    """One page of `wake_targets`."""


class SlotPage(Page[SlotInfo], frozen=True, omit_defaults=True):
    """One page of `slots`."""


class DevicePage(Page[DeviceInfo], frozen=True, omit_defaults=True):
    """One page of `devices`."""


#: What the lists' methods return: all in one piece, or a page.
SessionList = Annotated[list[SessionInfo], bytes_at_most(LIST_BYTES)] | SessionPage
ChannelList = Annotated[list[ChannelInfo], bytes_at_most(LIST_BYTES)] | ChannelPage
WakeTargetList = Annotated[list[WakeTarget], bytes_at_most(LIST_BYTES)] | WakeTargetPage
SlotList = Annotated[list[SlotInfo], bytes_at_most(LIST_BYTES)] | SlotPage
DeviceList = Annotated[list[DeviceInfo], bytes_at_most(LIST_BYTES)] | DevicePage
#: And those that are as long as what they are about: `add_slots`, `test_wake`.
AddedSlots = Annotated[list[SlotInfo], Meta(max_length=100)]
TestedTargets = Annotated[list[WakeTarget], Meta(max_length=100)]
