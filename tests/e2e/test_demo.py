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

from lightning_proxy.bolt.messages import (
    AcceptChannel,
    Error,
    FundingCreated,
    OpenChannel,
    Ping,
    decode,
)
from lightning_proxy.bolt.opening import check_accept_channel
from tests.support.channels import open_channel
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


def check_proof(proof: dict[str, Any]) -> None:
    assert proof["holds"] is True
    assert {"seed", "node_secret", "channel 0: funding_secret"} < set(proof["private_keys"])
    assert len(proof["private_keys"]) == 9
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


async def test_what_people_see(tmp_path: Path) -> None:
    async with demo(tmp_path) as process:
        out, err = await asyncio.wait_for(process.communicate(), TIMEOUT)
        assert (process.returncode, err) == (0, b"")
        text = out.decode()
        assert [word for word in text.split() if word in STEPS][: len(STEPS)] == STEPS
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
    async with demo(tmp_path, "--json", "--peer", peer.address) as process:
        connection = await shake_hands(peer)
        wanted: OpenChannel = open_channel()
        await connection.send(Ping(num_pong_bytes=1, ignored=b"").encode(), wanted.encode())
        accepted: AcceptChannel = await answer_to(connection, AcceptChannel)
        check_accept_channel(wanted, accepted)
        funding = FundingCreated(
            temporary_channel_id=wanted.temporary_channel_id,
            funding_txid=bytes(32),
            funding_output_index=0,
            signature=bytes(64),
        )
        await connection.send(funding.encode())
        error: Error = await answer_to(connection, Error)
        assert error.channel_id == wanted.temporary_channel_id
        report, hint = await finish(process)
        assert process.returncode == 0, report
        assert sorted(step["name"] for step in report["steps"]) == sorted(STEPS)
        assert report["peer"] == peer.address
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
