"""The demo as a user runs it: three processes, every step, and the proof."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.messages import (
    AcceptChannel,
    Error,
    FundingSigned,
    Ping,
    decode,
)
from tests.support.opening import Side
from tests.support.peer import PeerConnection, ScriptedPeer
from tests.support.relay import PEER_INIT
from tests.unit.cli.commands import TIMEOUT, environ

STEPS = [
    "act_one",
    "act_two",
    "act_three",
    "init_sent",
    "init_received",
    "ping",
    "pong",
    "open_channel",
    "delegated",
    "answered",
    "accept_channel",
]
CONFIRMED = ["block", "block", "block", "channel_ready", "delegated", "answered", "channel_ready"]
#: What each direction adds, in alphabetical order where the order isn't fixed.
INCOMING = [
    *STEPS,
    *("funding_created", "delegated", "answered", "funding_signed", "broadcast"),
    *CONFIRMED,
]
OUTGOING = [
    *(name for name in STEPS if name not in ("delegated", "answered")),
    *("delegated", "answered", "funding_created", "funding_signed"),
    *("delegated", "answered", "broadcast"),
    *CONFIRMED,
]
ANCHORS = "option_static_remotekey, option_anchors"
STATIC_REMOTEKEY = "option_static_remotekey"
SIZES = {"act_one": 50, "act_two": 50, "act_three": 66}


@asynccontextmanager
async def demo(folder: Path, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A running demo; all that it puts on the disk is in this folder, and gone afterwards."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "lightning_proxy", "demo", *arguments),
        # What it starts has this in its environment, too.
        env={**environ(folder), "TMPDIR": str(folder)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
        assert not any(os.scandir(folder))
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


async def finish(process: asyncio.subprocess.Process) -> tuple[dict[str, Any], str]:
    """Its report, which is all of its stdout, and its stderr."""
    out, err = await asyncio.wait_for(process.communicate(), TIMEOUT)
    report: dict[str, Any] = json.loads(out)
    return report, err.decode()


def check_proof(proof: dict[str, Any], *more: str) -> None:
    """None of the keys was found, of which a channel has these more."""
    assert proof["holds"] is True
    assert {"seed", "node_secret", "channel 0: funding_secret", *more} < set(proof["private_keys"])
    assert len(proof["private_keys"]) == 9 + len(more)
    assert len(proof["searches"]) == 2 - len(proof["not_searched"])
    assert bool(proof["not_searched"]) is (sys.platform != "linux")
    for search in proof["searches"]:
        assert search["private_keys_found"] == []
        assert search["controls_found"] == search["controls"]
        assert {"sending key", "receiving key", "chaining key"} <= set(search["controls"])
        assert search["searched_bytes"] > 0


async def test_the_whole_flow_and_the_proof(tmp_path: Path) -> None:
    async with demo(tmp_path, "--json") as process:
        report, errors = await finish(process)
        assert (process.returncode, errors) == (0, ""), report
        assert report["ok"] is True
        steps = report["steps"]
        assert [step["name"] for step in steps] == STEPS
        assert all(step["bytes"] > 0 for step in steps)
        assert {step["name"]: step["bytes"] for step in steps if step["name"] in SIZES} == SIZES
        times = [step["at_ms"] for step in steps]
        assert times == sorted(times)
        assert steps[0]["from"] == "wallet"
        assert steps[0]["to"] == "peer"
        check_proof(report["proof"])


async def test_a_wallet_that_sleeps_is_woken(tmp_path: Path) -> None:
    steps = ["asleep", *STEPS[-4:-2], "push", "awake", *STEPS[-2:]]
    async with demo(tmp_path, "--sleep") as process:
        out, err = await asyncio.wait_for(process.communicate(), TIMEOUT)
        assert (process.returncode, err) == (0, b"")
        text = out.decode()
        # The peer's ping comes when it comes.
        assert [word for word in text.split() if word in steps][: len(steps)] == steps
        assert "ms to the push" in text
        assert "None of the wallet's private keys" in text


async def test_what_people_see(tmp_path: Path) -> None:
    async with demo(tmp_path) as process:
        out, err = await asyncio.wait_for(process.communicate(), TIMEOUT)
        assert (process.returncode, err) == (0, b"")
        text = out.decode()
        assert [word for word in text.split() if word in STEPS][: len(STEPS)] == STEPS
        assert "None of the wallet's private keys is in " in text


@pytest.mark.parametrize(
    ("flag", "channel_type", "outgoing"),
    # The other two pairs are in test_wallet_channels, without processes of their own.
    [("--anchors", ANCHORS, False), ("--static-remotekey", STATIC_REMOTEKEY, True)],
    ids=["incoming", "outgoing"],
)
async def test_a_whole_channel(
    tmp_path: Path, flag: str, channel_type: str, outgoing: bool
) -> None:
    flags = ["--json", "--channel", flag, *(["--outgoing"] if outgoing else [])]
    async with demo(tmp_path, *flags) as process:
        report, errors = await finish(process)
    assert (process.returncode, errors) == (0, ""), report
    names = [step["name"] for step in report["steps"]]
    assert sorted(names) == sorted(OUTGOING if outgoing else INCOMING)
    for step in report["steps"]:
        assert (step.get("bytes", 0) > 0) is (step["name"] != "block")
    kinds = [step["kind"] for step in report["steps"] if step["name"] == "delegated"]
    first = ["funding_created", "funding_transaction"]
    assert kinds == [*(first if outgoing else ["channel_keys", "funding_signed"]), "channel_ready"]

    wallet, peer = report["channel"]["wallet"], report["channel"]["peer"]
    roles = ("opener", "accepter") if outgoing else ("accepter", "opener")
    assert (wallet["role"], peer["role"]) == roles
    mine = 750_000_000 if outgoing else 250_000_000
    for view, ours in ((wallet, mine), (peer, 1_000_000_000 - mine)):
        assert view["state"] == "ready"
        assert view["capacity_sat"] == 1_000_000
        assert view["channel_type"] == channel_type
        assert view["our_balance_msat"] == ours
        assert view["peer_balance_msat"] == 1_000_000_000 - ours
    assert wallet["channel_id"] == peer["channel_id"]
    assert peer["confirmations"] == 3
    # By a chain source of the wallet's own, and not by the relay's word.
    assert wallet["funding"]["source"] == "own chain source"
    assert wallet["funding"]["confirmations"] == 3
    later = [f"channel 0: {number} per_commitment_secret" for number in ("second", "third")]
    check_proof(report["proof"], *later, *(["on-chain key"] if outgoing else []))


async def test_what_people_see_of_a_channel(tmp_path: Path) -> None:
    async with demo(tmp_path, "--channel") as process:
        out, err = await asyncio.wait_for(process.communicate(), TIMEOUT)
    assert (process.returncode, err) == (0, b"")
    text = out.decode()
    for count in (1, 2, 3):
        assert f"a block: {count} of 3 confirmations" in text
    rows = {
        line.rsplit(maxsplit=2)[0].strip(): line.split()[-2:] for line in text.splitlines() if line
    }
    assert rows["role"] == ["accepter", "opener"]
    assert rows["state"] == ["ready", "ready"]
    assert rows["capacity (sat)"] == ["1,000,000", "1,000,000"]
    assert rows["its own balance (msat)"] == ["250,000,000", "750,000,000"]
    assert rows["confirmations"] == ["3", "3"]
    assert "None of the wallet's private keys is in " in text


async def shake_hands(peer: ScriptedPeer) -> PeerConnection:
    connection = await asyncio.wait_for(peer.accept(), TIMEOUT)
    await connection.handshake()
    await connection.receive()
    await connection.send(PEER_INIT)
    return connection


async def answer_to(connection: PeerConnection, *kinds: type) -> Any:
    """The next message of one of these classes."""
    while not isinstance(message := decode(await connection.receive()), kinds):
        pass
    return message


async def test_a_real_peer(tmp_path: Path, peer: ScriptedPeer) -> None:
    """Its funds stay where they are: what it signs rightly gets no signature in return."""
    side = Side(Role.OPENER)
    async with demo(tmp_path, "--json", "--peer", peer.address) as process:
        connection = await shake_hands(peer)
        ping = Ping(num_pong_bytes=1, ignored=b"")
        await connection.send(ping.encode(), side.say(side.open_channel()))
        accepted: AcceptChannel = await answer_to(connection, AcceptChannel)
        side.hear(accepted.encode())
        await connection.send(side.say(side.funding_created()))
        errors = [await answer_to(connection, Error, FundingSigned) for _ in range(2)]
        ids = {side.channel.temporary_channel_id, side.channel.channel_id}
        assert {error.channel_id for error in errors} == ids
        assert {error.data for error in errors} == {b"this is a demo, no funds are to move"}
        report, hint = await finish(process)
        assert process.returncode == 0, report
        assert sorted(step["name"] for step in report["steps"]) == sorted(STEPS)
        assert report["peer"] == peer.address
        assert report["channel"] is None
        check_proof(report["proof"])
        assert "lncli openchannel --node_key=" in hint


async def test_a_real_peer_that_opens_nothing(tmp_path: Path, peer: ScriptedPeer) -> None:
    async with demo(tmp_path, "--json", "--peer", peer.address, "--wait", "1") as process:
        await shake_hands(peer)
        report, errors = await finish(process)
        assert process.returncode == 1
        assert report["ok"] is False
        assert report["failure"] == "no open_channel came within 1 s"
        assert report["proof"] is None
        assert report["failure"] in errors
        assert "init_received" in "".join(report["log"])


async def test_a_wallet_that_opens_nothing_needs_no_type(tmp_path: Path) -> None:
    for flags in (["--outgoing"], ["--anchors"], ["--channel", "--peer", "x"]):
        async with demo(tmp_path, *flags) as process:
            _, err = await asyncio.wait_for(process.communicate(), TIMEOUT)
            assert process.returncode == 2
            assert b"Invalid value" in err


async def test_a_peer_that_is_not_there(tmp_path: Path) -> None:
    async with ScriptedPeer(b"\x22" * 32).serve() as peer:
        address = peer.address
    async with demo(tmp_path, "--json", "--peer", address) as process:
        report, errors = await finish(process)
        assert process.returncode == 1
        assert "refuses the connection" in report["failure"]
        assert "Traceback" not in errors


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_an_interrupt_leaves_nothing_behind(
    tmp_path: Path, peer: ScriptedPeer, number: int
) -> None:
    async with demo(tmp_path, "--peer", peer.address) as process:
        await shake_hands(peer)
        # All programs are there, and wait for each other.
        assert len(descendants(tmp_path)) == 3
        process.send_signal(number)
        await asyncio.wait_for(process.communicate(), TIMEOUT)
        assert process.returncode == 130
        assert descendants(tmp_path) == []


def descendants(folder: Path) -> list[str]:
    """Every process whose temporary folder is this one: the demo, the relay and the wallet."""
    mark = f"TMPDIR={folder}\0".encode()
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                is_ours = mark in (Path(entry.path) / "environ").read_bytes()
            except OSError:
                # It ended, or is another user's.
                continue
            if is_ours:
                found.append(entry.name)
    return found
