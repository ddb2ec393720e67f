"""A full disk: no promise without it, nobody else affected, and all goes on when there is room.

The relay is a process of its own, whose files may grow no more while its limit says so
(setrlimit(2): RLIMIT_FSIZE).
"""

import resource
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.messages import decode
from tests.soak.relay import RelayProcess
from tests.support.channels import channel_keys
from tests.support.numbered import messages, numbered, raw_session, said, until_stored
from tests.support.opening import Side
from tests.support.peer import ScriptedPeer
from tests.support.relay import RpcFailure, raw_wallet

SECRET: Final = b"\x5a" * 32
PING: Final = b"\x00\x12\x00\x00\x00\x00"
PONG: Final = b"\x00\x13"
ACCEPT_CHANNEL: Final = b"\x00\x21"


class Disk:
    """Of one relay's process: `fill` it, and `clear` it again."""

    def __init__(self, relay: RelayProcess) -> None:
        self._relay = relay

    def fill(self) -> None:
        """No byte can be written any more, wherever in a file."""
        self._set(1)

    def clear(self) -> None:
        self._set(resource.RLIM_INFINITY)

    def _set(self, size: int) -> None:
        _, hard = resource.prlimit(self._relay.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self._relay.pid, resource.RLIMIT_FSIZE, (size, hard))


@pytest.fixture
async def relay(tmp_path: Path) -> AsyncIterator[RelayProcess]:
    process = RelayProcess(tmp_path)
    await process.start()
    yield process
    await process.kill()


@pytest.fixture
def disk(relay: RelayProcess) -> Disk:
    return Disk(relay)


async def test_sessions_go_on_and_what_waited_is_stored_when_there_is_room(
    relay: RelayProcess, disk: Disk, peer: ScriptedPeer, tmp_path: Path
) -> None:
    async with raw_wallet(relay.url, SECRET) as wallet:
        session_id, connection = await raw_session(wallet, peer)
        await said(connection, 0, 1)
        assert await messages(wallet, 2) == [0, 1]
        await until_stored(wallet)
        disk.fill()
        await said(connection, 2)
        assert await messages(wallet, 1) == [2]
        with pytest.raises(RpcFailure, match="try again later") as failure:
            await wallet.call("acknowledge", position=0)
        assert failure.value.code == "unavailable"
        # The wallet's own messages need no disk.
        await wallet.call("send", session_id=session_id, message=numbered(7).hex())
        assert await connection.receive() == numbered(7)
    await said(connection, 3)
    async with raw_wallet(relay.url, SECRET) as wallet:
        assert await messages(wallet, 4) == [0, 1, 2, 3]
        disk.clear()
        await until_stored(wallet)
    await relay.kill()
    with sqlite3.connect(tmp_path / "relay.sqlite") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()
    await relay.start()
    async with raw_wallet(relay.url, SECRET) as wallet:
        assert await messages(wallet, 4) == [0, 1, 2, 3]
        assert (await wallet.event("session_lost"))["session_id"] == session_id
        await wallet.acknowledge()
        await wallet.quiet()
    assert relay.errors() == []


async def test_what_has_to_be_on_disk_is_refused_in_so_many_words(
    relay: RelayProcess, disk: Disk, peer: ScriptedPeer
) -> None:
    answer = channel_keys()
    del answer["channel_type"]
    slot = {"answer": answer, "policy": {"max_funding_sat": 1_000_000}}
    durable: dict[str, dict[str, Any]] = {
        "wake_by_webhook": {"url": "http://127.0.0.1:1/wake"},
        "add_slots": {"slots": [slot]},
    }
    async with raw_wallet(relay.url, SECRET) as wallet:
        disk.fill()
        for method, params in durable.items():
            with pytest.raises(RpcFailure, match="try again later") as failure:
                await wallet.call(method, **params)
            assert failure.value.code == "unavailable"
        # A session whose loss could not be told is none.
        with pytest.raises(RpcFailure, match="try again later"):
            await wallet.open_session(peer)
        assert await wallet.call("sessions") == []
        disk.clear()
        await until_stored(wallet)
        assert await wallet.call("slots") == []
        assert await wallet.call("wake_targets") == []
        for method, params in durable.items():
            await wallet.call(method, **params)
        await wallet.open_session(peer)
    await relay.kill()
    await relay.start()
    async with raw_wallet(relay.url, SECRET) as wallet:
        assert len(await wallet.call("slots")) == 1
        assert len(await wallet.call("wake_targets")) == 1


async def test_a_channel_that_can_not_be_kept_gets_no_signature(
    relay: RelayProcess, disk: Disk, peer: ScriptedPeer
) -> None:
    """The session with that peer ends; another one goes on."""
    opener, accepter = Side(Role.OPENER), Side(Role.ACCEPTER)
    async with (
        ScriptedPeer(b"\x22" * 32).serve() as other_peer,
        raw_wallet(relay.url, SECRET) as wallet,
    ):
        session_id, connection = await wallet.open_session(peer)
        other_id, other = await raw_session(wallet, other_peer)
        await connection.send(opener.say(opener.open_channel()))
        question = await wallet.event("delegate")
        accepter.hear(bytes.fromhex(question["messages"][0]))
        await wallet.answer(question, accepter.channel_keys())
        accept = await connection.receive()
        opener.hear(accept)
        assert accepter.say(accepter.accept_channel()) == accept
        created = opener.say(opener.funding_created())
        await connection.send(created)
        question = await wallet.event("delegate")
        accepter.hear(created)
        disk.fill()
        await wallet.answer(question, {"signature": accepter.funding_signed().signature.hex()})
        assert await connection.closed() == b""
        closed = await wallet.event_of("closed")
        assert closed["session_id"] == session_id
        await said(other, 1)
        assert (await wallet.event("message"))["session_id"] == other_id
        disk.clear()
        await until_stored(wallet)
        assert await wallet.call("channels") == []


async def test_an_offer_gets_no_slot_that_could_be_used_again(
    relay: RelayProcess, disk: Disk, peer: ScriptedPeer
) -> None:
    """Until its use is on disk, a key slot is not used."""
    answer = channel_keys()
    del answer["channel_type"]
    async with raw_wallet(relay.url, SECRET) as wallet:
        _, connection = await wallet.open_session(peer)
        policy = {"max_funding_sat": 10_000_000}
        await wallet.call("add_slots", slots=[{"answer": answer, "policy": policy}])
    opener = Side(Role.OPENER)
    disk.fill()
    await connection.send(opener.open_channel().encode(), PING)
    funding_pubkey = bytes.fromhex(answer["funding_pubkey"])
    said_by_relay = b""
    try:
        while (message := await connection.receive())[:2] != PONG:
            said_by_relay += message
    except EOFError:
        pass
    assert funding_pubkey not in said_by_relay
    disk.clear()
    await relay.kill()
    await relay.start()
    async with raw_wallet(relay.url, SECRET) as wallet:
        (slot,) = await wallet.call("slots")
        assert "used" not in slot
        _, connection = await wallet.open_session(peer)
    await connection.send(Side(Role.OPENER).open_channel().encode())
    accept = await connection.receive()
    assert accept[:2] == ACCEPT_CHANNEL
    assert decode(accept).funding_pubkey == funding_pubkey  # type: ignore[attr-defined]
