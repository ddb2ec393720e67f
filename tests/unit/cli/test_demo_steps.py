"""The demo's steps: which orders pass, and what is made of what the programs say."""

import json
from typing import Any

import pytest

from lightning_proxy.demo.programs import Program
from lightning_proxy.demo.steps import PARTIES, Step, what_is_wrong
from lightning_proxy.demo.watcher import DemoFailed, Watcher

NAMES = list(PARTIES)


def steps(names: list[str]) -> list[Step]:
    return [Step.of(name, index) for index, name in enumerate(names)]


def programs() -> tuple[Program, Program, Program]:
    names = ("relay", "peer", "wallet")
    relay, peer, wallet = (Program(name, [], lambda *_: None, environ={}) for name in names)
    return relay, peer, wallet


def test_the_flow_is_legal() -> None:
    assert what_is_wrong(steps(NAMES)) is None


def test_a_real_peer_pings_when_it_likes() -> None:
    names = [name for name in NAMES if name not in ("ping", "pong")]
    assert what_is_wrong(steps([*names, "ping", "pong"])) is None


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_and_a_repeated_step(name: str) -> None:
    assert name in (what_is_wrong(steps([other for other in NAMES if other != name])) or "")
    assert "2 times" in (what_is_wrong(steps([*NAMES, name])) or "")


@pytest.mark.parametrize("name", NAMES[1:])
def test_a_step_that_comes_first_is_too_early(name: str) -> None:
    names = [name, *(other for other in NAMES if other != name)]
    assert "came before" in (what_is_wrong(steps(names)) or "")


async def test_steps_come_in_the_order_in_which_they_happened() -> None:
    shown: list[Step] = []
    watcher = Watcher(shown.append)
    relay, peer, wallet = programs()
    delegation = {"session_id": "5e", "delegation_id": "de"}
    # The second line tells of what happened first.
    watcher.take(peer, {"event": "pong_received", "at": 4102444802.0, "size": 12})
    watcher.take(peer, {"event": "ping_sent", "at": 4102444801.0, "size": 22})
    watcher.take(relay, {"event": "delegated", "timestamp": "2100-01-01T00:00:03.5Z", **delegation})
    watcher.take(relay, {"event": "session_ready", "timestamp": "2100-01-01T00:00:00.5Z"})
    request = json.dumps({"id": "de", "method": "delegate", "params": {}})
    watcher.take(wallet, {"event": "frame", "direction": "received", "size": 4711, "text": request})
    watcher.show_rest()
    assert [step.name for step in shown] == ["ping", "pong", "delegated"]
    assert [step.bytes for step in shown] == [22, 12, 4711]
    assert shown[2].delegation_id == "de"


@pytest.mark.parametrize(
    ("counters", "senders"),
    [
        ({"pings_received": 1, "pongs_received": 0}, ["peer", "relay"]),
        ({"pings_received": 0, "pongs_received": 2}, ["relay", "peer"]),
        ({"pings_received": 0, "pongs_received": 0}, []),
    ],
)
async def test_counters_tell_of_a_real_peers_ping(
    counters: dict[str, Any], senders: list[str]
) -> None:
    watcher = Watcher(lambda _: None)
    *_, wallet = programs()
    for at in (4102444801.0, 4102444802.0):
        watcher.take(wallet, {"event": "counters", "at": at, **counters})
    assert [step.from_ for step in watcher.steps] == senders
    assert [step.name for step in watcher.steps] == ["ping", "pong"][: len(senders)]


@pytest.mark.parametrize("last", [{"event": "failed", "reason": "it rains"}, None])
async def test_waiting_ends_with_the_program(last: dict[str, Any] | None) -> None:
    watcher = Watcher(lambda _: None)
    relay, *_ = programs()
    watcher.take(relay, {"event": "ready", "url": "u"})
    watcher.take(relay, last)
    assert (await watcher.said("relay", "ready"))["url"] == "u"
    with pytest.raises(DemoFailed, match=r"the relay (says failed: it rains|ended)"):
        await watcher.said("relay", "never")


async def test_waiting_ends_in_time() -> None:
    with pytest.raises(DemoFailed, match=r"the peer never said hello within 0\.01 s"):
        await Watcher(lambda _: None).said("peer", "hello", 0.01)
