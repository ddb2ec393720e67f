"""The demo's steps: which orders pass, and what is made of what the programs say."""

import json
from typing import Any

import pytest

from lightning_proxy.demo.channel_peer import MINIMUM_DEPTH
from lightning_proxy.demo.programs import Program
from lightning_proxy.demo.steps import INCOMING, OFFERED, OUTGOING, Due, Flow, Step
from lightning_proxy.demo.watcher import DemoFailed, Watcher

FLOWS = {"offered": OFFERED, "incoming": INCOMING, "outgoing": OUTGOING}
NAMED = {f"{name}: {due.key}": (flow, due) for name, flow in FLOWS.items() for due in flow.steps}
LATER = {name: (flow, due) for name, (flow, due) in NAMED.items() if due.after is not None}


def steps(dues: list[Due]) -> list[Step]:
    return [
        Step(name=due.name, from_=due.from_, to=due.to, at_ms=index, kind=due.kind)
        for index, due in enumerate(dues)
    ]


def in_order(flow: Flow) -> list[Due]:
    return [due for due in flow.steps for _ in range(due.times)]


def programs() -> tuple[Program, Program, Program]:
    names = ("relay", "peer", "wallet")
    relay, peer, wallet = (Program(name, [], lambda *_: None, environ={}) for name in names)
    return relay, peer, wallet


@pytest.mark.parametrize("flow", FLOWS.values(), ids=FLOWS)
def test_the_flow_is_legal(flow: Flow) -> None:
    assert flow.what_is_wrong(steps(in_order(flow))) is None
    keys = [due.key for due in flow.steps]
    assert len(keys) == len(set(keys))
    assert {due.after for due in flow.steps} - {None} < set(keys)


def test_a_real_peer_pings_when_it_likes() -> None:
    pings = [due for due in OFFERED.steps if due.name in ("ping", "pong")]
    others = [due for due in OFFERED.steps if due not in pings]
    late = steps([*others, *pings])
    assert OFFERED.what_is_wrong(late) is None
    # And it may be the relay that begins.
    for step in late[-2:]:
        step.from_, step.to = step.to, step.from_
    assert OFFERED.what_is_wrong(late) is None


@pytest.mark.parametrize(("flow", "due"), NAMED.values(), ids=NAMED)
def test_a_missing_and_a_repeated_step(flow: Flow, due: Due) -> None:
    dues = in_order(flow)
    missing = list(dues)
    missing.remove(due)
    assert due.key in (flow.what_is_wrong(steps(missing)) or "")
    assert f"{due.times + 1} times" in (flow.what_is_wrong(steps([*dues, due])) or "")


@pytest.mark.parametrize(("flow", "due"), LATER.values(), ids=LATER)
def test_a_step_that_comes_first_is_too_early(flow: Flow, due: Due) -> None:
    rest = in_order(flow)
    rest.remove(due)
    assert "came before" in (flow.what_is_wrong(steps([due, *rest])) or "")


@pytest.mark.parametrize("flow", [INCOMING, OUTGOING], ids=["incoming", "outgoing"])
def test_what_waits_for_blocks_waits_for_the_last(flow: Flow) -> None:
    dues = in_order(flow)
    ready = next(due for due in dues if due.key == "delegated channel_ready")
    dues.remove(ready)
    last = max(index for index, due in enumerate(dues) if due.name == "block")
    dues.insert(last, ready)
    wrong = flow.what_is_wrong(steps(dues))
    assert wrong == "the step delegated channel_ready came before block"
    assert [due.name for due in dues].count("block") == MINIMUM_DEPTH


@pytest.mark.parametrize("flow", [INCOMING, OUTGOING], ids=["incoming", "outgoing"])
async def test_a_channels_messages_are_the_peers_to_tell(flow: Flow) -> None:
    watcher = Watcher(flow, lambda _: None)
    relay, peer, _ = programs()
    for event in ("accept_channel", "open_channel", "channel_ready"):
        watcher.take(relay, {"event": event, "timestamp": "2100-01-01T00:00:00Z", "size": 1})
    assert watcher.steps == []
    for way, speaker in (("sent", "peer"), ("received", "relay")):
        watcher.take(peer, {"event": f"channel_ready_{way}", "at": 4102444800.0, "size": 67})
        assert watcher.steps[-1].key == f"channel_ready {speaker}"
        assert watcher.steps[-1].bytes == 67


async def test_an_answer_has_its_questions_kind() -> None:
    watcher = Watcher(INCOMING, lambda _: None)
    relay, *_ = programs()
    for number, kind in (("1", "channel_keys"), ("2", "funding_signed")):
        line = {"event": "delegated", "delegation_id": number, "kind": kind}
        watcher.take(relay, {**line, "timestamp": "2100-01-01T00:00:00Z"})
    for number in ("2", "1"):
        line = {"event": "answered", "delegation_id": number}
        watcher.take(relay, {**line, "timestamp": "2100-01-01T00:00:01Z"})
    keys = [step.key for step in watcher.steps]
    assert keys[2:] == ["answered funding_signed", "answered channel_keys"]
    assert [watcher.count(key) for key in keys] == [1, 1, 1, 1]


async def test_what_a_real_peer_goes_on_with_is_no_step() -> None:
    watcher = Watcher(OFFERED, lambda _: None)
    relay, *_ = programs()
    for number, kind in (("1", "channel_keys"), ("2", "funding_signed")):
        line = {"event": "delegated", "delegation_id": number, "kind": kind}
        watcher.take(relay, {**line, "timestamp": "2100-01-01T00:00:00Z"})
    assert [step.key for step in watcher.steps] == ["delegated channel_keys"]


async def test_steps_come_in_the_order_in_which_they_happened() -> None:
    shown: list[Step] = []
    watcher = Watcher(OFFERED, shown.append)
    relay, peer, wallet = programs()
    delegation = {"session_id": "5e", "delegation_id": "de", "kind": "channel_keys"}
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
    watcher = Watcher(OFFERED, lambda _: None)
    *_, wallet = programs()
    for at in (4102444801.0, 4102444802.0):
        watcher.take(wallet, {"event": "counters", "at": at, **counters})
    assert [step.from_ for step in watcher.steps] == senders
    assert [step.name for step in watcher.steps] == ["ping", "pong"][: len(senders)]


@pytest.mark.parametrize("last", [{"event": "failed", "reason": "it rains"}, None])
async def test_waiting_ends_with_the_program(last: dict[str, Any] | None) -> None:
    watcher = Watcher(OFFERED, lambda _: None)
    relay, *_ = programs()
    watcher.take(relay, {"event": "ready", "url": "u"})
    watcher.take(relay, last)
    assert (await watcher.said("relay", "ready"))["url"] == "u"
    with pytest.raises(DemoFailed, match=r"the relay (says failed: it rains|ended)"):
        await watcher.said("relay", "never")


async def test_waiting_ends_in_time() -> None:
    with pytest.raises(DemoFailed, match=r"the peer never said hello within 0\.01 s"):
        await Watcher(OFFERED, lambda _: None).said("peer", "hello", 0.01)
