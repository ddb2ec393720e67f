"""What waits for a wallet: in order, bounded, and with all that is worth waking it for."""

from itertools import permutations

import pytest
from msgspec import structs

from lightning_proxy.relay.notices import Notices, size_of
from lightning_proxy.rpc import (
    Closed,
    Notification,
    PeerMessage,
    SessionLost,
    SlotUsed,
    Voided,
    WakeReason,
)

MESSAGE = PeerMessage("1" * 32, 1, "00" * 5)
CLOSED = Closed("2" * 32, "the peer hung up")
LOST = SessionLost("3" * 32, "02" * 33)
VOIDED = Voided("4" * 32, "the session is over")
USED = SlotUsed(
    slot_id="5" * 32,
    session_id="1" * 32,
    peer="02" * 33,
    channel_id="00" * 32,
    open_channel="00",
    accept_channel="00",
)


def waiting(*notifications: Notification) -> Notices:
    notices = Notices()
    for position, notification in enumerate(notifications, 1):
        notices.add(structs.replace(notification, position=position))
    return notices


@pytest.mark.parametrize("told", list(permutations([MESSAGE, CLOSED, VOIDED, USED])))
def test_nothing_hides_what_a_wallet_is_wanted_for(told: list[Notification]) -> None:
    notices = waiting(*told)
    assert [type(each) for each in notices] == [type(each) for each in told]
    assert notices.reasons() == [
        (WakeReason.SLOT_USED, "5" * 32),
        (WakeReason.MESSAGE, "1" * 32),
        (WakeReason.SESSION_LOST, "2" * 32),
    ]


def test_of_each_reason_the_latest_is_named() -> None:
    assert waiting(CLOSED, VOIDED, LOST).reasons() == [(WakeReason.SESSION_LOST, "3" * 32)]
    assert waiting(LOST, CLOSED, VOIDED).reasons() == [(WakeReason.SESSION_LOST, "2" * 32)]
    assert waiting(VOIDED).reasons() == waiting().reasons() == []


def test_what_can_be_missed_goes_first_and_a_used_slot_never() -> None:
    notices = waiting(USED, CLOSED, MESSAGE, USED, VOIDED, MESSAGE)
    spared = []
    while (each := notices.spare()) is not None:
        spared.append(type(each))
        assert notices.size == sum(map(size_of, notices))
    assert spared == [PeerMessage, PeerMessage, Closed, Voided]
    assert [each.position for each in notices] == [1, 4]


def test_what_is_acknowledged_is_taken_out() -> None:
    notices = waiting(MESSAGE, CLOSED, MESSAGE, VOIDED, USED)
    assert sorted(each.position for each in notices.take_until(3)) == [1, 2, 3]
    assert [each.position for each in notices] == [4, 5]
    assert notices.size == sum(map(size_of, notices))
    assert notices
    assert len(notices.take_until(5)) == 2
    assert not notices
    assert notices.size == 0
