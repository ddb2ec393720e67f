"""`wallet wake`, `presence`, `devices` and the rest, as programs of their own, at a real relay."""

import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from lightning_proxy.api import Server
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.messages import AcceptChannel, decode
from lightning_proxy.relay.wake.settings import WakeSettings
from lightning_proxy.wallet import WalletKeys
from tests.support.opening import Side
from tests.support.peer import PeerConnection, ScriptedPeer
from tests.support.receivers import Receiver
from tests.support.relay import raw_wallet, take
from tests.support.relay import relay as real_relay
from tests.unit.wallet.program import Program, run
from tests.unit.wallet.samples import SEED

NODE_SECRET = dict(WalletKeys(SEED).private_keys())["node_secret"]
NODE_ID = WalletKeys(SEED).node_id.hex()
UNKNOWN = "11" * 16
CHANNEL = "11" * 32
ALL_RIGHTS = ["answer", "connect", "see"]


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with real_relay(wake=WakeSettings(cooldown=0.01)) as server:
        yield server


@pytest.fixture
def there(wallet: dict[str, str], server: Server) -> dict[str, str]:
    """The environment of a wallet that has this relay."""
    return {**wallet, "LIGHTNING_PROXY_RELAY": server.url}


@pytest.fixture
def without_passphrase(there: dict[str, str]) -> dict[str, str]:
    """The same, for a device that can't open the keystore."""
    return {k: v for k, v in there.items() if k != "LIGHTNING_PROXY_WALLET_PASSPHRASE"}


async def values(*arguments: str, **environment: str) -> list[dict[str, Any]]:
    """What a command that works writes with --json."""
    code, out, err = await run(*arguments, "--json", **environment)
    assert (code, err) == (0, "")
    return [json.loads(line) for line in out.splitlines()]


async def value(*arguments: str, **environment: str) -> dict[str, Any]:
    (only,) = await values(*arguments, **environment)
    return only


async def add_device(file: Path, *rights: str, **there: str) -> str:
    """Make a device's key and let it in; returns its public key."""
    key = str((await value("device-key", str(file), **there))["device_key"])
    options = [word for right in rights for word in ("--right", right)]
    assert (await value("add-device", key, file.stem, *options, **there))["device_key"] == key
    return key


@asynccontextmanager
async def running(*arguments: str, **environment: str) -> AsyncIterator[Program]:
    """A program that does not outlive a test that fails: the relay's end would wait for it."""
    program = await Program.start(*arguments, **environment)
    try:
        yield program
    finally:
        if program.process.returncode is None:
            program.process.kill()
            await program.process.communicate()


@asynccontextmanager
async def connected(**there: str) -> AsyncIterator[tuple[str, PeerConnection]]:
    """A session that the relay holds while no program of the wallet's runs."""
    async with ScriptedPeer(secrets.token_bytes(32)).serve() as peer:
        async with running("connect", peer.address, "--json", **there) as program:
            connection = await take(peer)
            session_id = (await program.until("connected"))["session_id"]
            assert (await program.end())[0] == 0
        yield session_id, connection


# ---- wake-ups ----


async def test_where_it_is_woken(there: dict[str, str]) -> None:
    assert await run("wake", **there) == (0, "Nowhere: this wallet is not woken.\n", "")
    assert await values("wake", **there) == []
    async with Receiver().serve() as receiver:
        target = await value("wake", "--webhook", receiver.url, **there)
        assert (target["kind"], target["host"]) == ("webhook", "127.0.0.1")
        assert target.keys().isdisjoint({"last_success", "failure"})
        tested = await value("wake", "--test", **there)
        assert tested["last_success"] > 0
        push = await receiver.push()
        assert json.loads(push.body)["reason"] == "test"
        assert receiver.pushes.empty()
        receiver.answers(500)
        assert "failure" in await value("wake", "--test", **there)
    code, out, _ = await run("wake", **there)
    assert code == 0
    for word in (target["target_id"], target["host"], "webhook", "500"):
        assert word in out
    assert await values("wake", "--remove", target["target_id"], **there) == []
    assert "Nowhere" in (await run("wake", **there))[1]


async def test_help_says_where_web_push_is_to_be_had() -> None:
    code, out, _ = await run("wake", "--help")
    assert (code, "browser" in out) == (0, True)


# ---- presence ----


@pytest.mark.parametrize("policy", ["disconnect", "attended", "stay"])
async def test_presence_is_chosen_for_a_session(there: dict[str, str], policy: str) -> None:
    async with connected(**there) as (session_id, _):
        chosen = await value("presence", session_id, policy, "--seconds", "86400", **there)
        assert chosen == {"session_id": session_id, "presence": policy}
        (listed,) = await values("sessions", **there)
        assert listed.get("presence", "stay") == policy
        code, out, _ = await run("presence", session_id, policy, **there)
        assert (code, f"{session_id}: {policy}." in out) == (0, True)


async def test_its_seconds_are_the_relays(there: dict[str, str], server: Server) -> None:
    """With none to wait, a peer that needs the wallet finds it gone."""
    async with connected(**there) as (session_id, connection):
        await value("presence", session_id, "disconnect", "--seconds", "0", **there)
        side = Side(Role.OPENER)
        await connection.send(side.say(side.open_channel(funding_satoshis=1_000_000)))
        await connection.closed()
        assert await values("sessions", **there) == []


# ---- devices ----


async def test_devices_come_and_go(
    there: dict[str, str], without_passphrase: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "phone"
    assert "No devices" in (await run("devices", **there))[1]
    code, out, _ = await run("device-key", str(file), **without_passphrase)
    assert code == 0
    assert file.stat().st_mode & 0o777 == 0o600
    kept = file.read_text()
    assert kept.strip() not in out
    code, out, err = await run("device-key", str(file), **there)
    assert (code, out, file.read_text()) == (1, "", kept)
    assert "not overwritten" in err
    as_device = ("devices", "--device-key", str(file))
    code, out, err = await run(*as_device, **without_passphrase)
    assert (code, out) == (1, "")
    assert "none of this wallet" in err

    file.unlink()
    key = await add_device(file, "see", **there)
    (device,) = await values(*as_device, **without_passphrase)
    assert (device["device_key"], device["name"]) == (key, "phone")
    assert (device["rights"], device["sockets"]) == (["see"], 1)
    (seen,) = await values("devices", **there)
    assert seen.keys().isdisjoint({"sockets", "revoked"})

    assert await value("revoke-device", key, **there) == {"device_key": key}
    assert (await run(*as_device, **without_passphrase))[0] == 1
    (revoked,) = await values("devices", **there)
    assert revoked["revoked"] >= revoked["created"]
    key = await add_device(tmp_path / "tablet", **there)
    assert [each["rights"] for each in await values("devices", **there)] == [["see"], ALL_RIGHTS]
    code, out, _ = await run("devices", **there)
    assert code == 0
    for word in (key, "phone", "tablet", ", ".join(ALL_RIGHTS)):
        assert word in out
    code, out, _ = await run("revoke-device", key, **there)
    assert (code, out) == (0, f"Device {key} is out.\n")


async def test_a_device_does_what_it_has_the_right_to(
    there: dict[str, str], without_passphrase: dict[str, str], tmp_path: Path
) -> None:
    """What needs no key of the wallet's, it does without the passphrase."""
    phone, remote = tmp_path / "phone", tmp_path / "remote"
    await add_device(phone, "see", **there)
    await add_device(remote, "connect", **there)
    by_phone = ("--device-key", str(phone))
    by_remote = ("--device-key", str(remote))
    async with connected(**there) as (session_id, connection):
        (seen,) = await values("sessions", *by_phone, **without_passphrase)
        assert seen["session_id"] == session_id
        assert await values("wake", *by_phone, **without_passphrase) == []
        for denied in (
            ("wake", "--test", *by_phone),
            ("close", session_id, *by_phone),
            ("presence", session_id, "stay", *by_phone),
            ("take-over", CHANNEL, *by_phone),
            ("sessions", *by_remote),
        ):
            code, out, err = await run(*denied, **without_passphrase)
            assert (code, out) == (1, ""), denied
            assert "lacks the right" in err
        await value("presence", session_id, "attended", *by_remote, **without_passphrase)
        await value("close", session_id, *by_remote, **without_passphrase)
        await connection.closed()


async def test_a_channel_is_taken_over(there: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "phone"
    await add_device(file, "answer", **there)
    await values("leave-slots", "1", **there)
    async with connected(**there) as (_, connection):
        side = Side(Role.OPENER)
        await connection.send(side.say(side.open_channel(funding_satoshis=1_000_000)))
        assert isinstance(decode(await connection.receive()), AcceptChannel)
        channel = side.channel.temporary_channel_id.hex()
        first = await value("take-over", channel, **there)
        assert first["channel_id"] == channel
        second = await value("take-over", channel, "--device-key", str(file), **there)
        assert second["fencing"] > first["fencing"]
        code, out, _ = await run("take-over", channel, **there)
        assert (code, channel in out) == (0, True)
        assert f"fencing number {second['fencing'] + 1}" in out


# ---- watching as a device ----


async def test_a_device_answers_where_the_passphrase_is_and_else_looks_on(
    there: dict[str, str], without_passphrase: dict[str, str], policy: str, tmp_path: Path
) -> None:
    file = tmp_path / "phone"
    key = await add_device(file, **there)
    watching = ("watch", "--device-key", str(file), "--json")
    answering = (*watching, "--approve", "policy", "--policy", policy)
    async with connected(**there) as (session_id, connection):
        side = Side(Role.OPENER)
        await connection.send(side.say(side.open_channel(funding_satoshis=1_000_000)))
        async with running(*watching, **without_passphrase) as looking:
            assert (await looking.until("watching"))["node_id"] == NODE_ID
            seen = await looking.until("delegation")
            assert seen["open_channel"]["funding_satoshis"] == 1_000_000
            (listed,) = await values("sessions", **there)
            assert listed["open_delegations"] == 1

            async with running(*answering, **there) as program:
                answered = await program.until("answered")
                assert answered["delegation_id"] == seen["delegation_id"]
                assert isinstance(decode(await connection.receive()), AcceptChannel)
                (device,) = await values("devices", **there)
                assert (device["device_key"], device["sockets"]) == (key, 2)
                # Neither is here by the node key, so both are put out.
                await value("revoke-device", key, **there)
                for revoked in (looking, program):
                    code, _, err = await revoked.end()
                    assert code == 1
                    assert "none of this wallet" in err
        code, _, err = await run(*answering, **there)
        assert (code, "none of this wallet" in err) == (1, True)
        assert [each["session_id"] for each in await values("sessions", **there)] == [session_id]


async def test_who_looks_on_says_so(
    there: dict[str, str], without_passphrase: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "phone"
    await add_device(file, "see", **there)
    async with running("watch", "--device-key", str(file), **without_passphrase) as program:
        await program.shown_until("is at")
        program.process.terminate()
        code, _, err = await program.end()
    assert (code, "only looks on" in err) == (0, True)


async def test_who_only_asks_or_looks_on_takes_nothing_from_who_watches(
    there: dict[str, str], without_passphrase: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "phone"
    by_phone = ("--device-key", str(file))
    key = await add_device(file, **there)
    async with connected(**there) as (session_id, connection):
        await connection.close()
        # It is over when the relay has said so, which this wallet does not acknowledge.
        async with raw_wallet(there["LIGHTNING_PROXY_RELAY"], NODE_SECRET) as raw:
            assert (await raw.event_of("closed"))["session_id"] == session_id
    async with running("watch", "--json", *by_phone, **without_passphrase) as looking:
        assert (await looking.until("session_closed"))["session_id"] == session_id
        await values("sessions", *by_phone, **without_passphrase)
        for command in ("sessions", "channels", "wake", "devices", "slots"):
            relay = ("--relay", there["LIGHTNING_PROXY_RELAY"]) if command == "channels" else ()
            await values(command, *relay, **there)
        for fails in (("close", session_id), ("presence", session_id, "stay")):
            assert (await run(*fails, **there))[0] == 1
        await value("revoke-device", key, **there)
        assert (await looking.end())[0] == 1
    async with running("watch", "--json", "--approve", "refuse", **there) as watching:
        assert (await watching.until("session_closed"))["session_id"] == session_id


# ---- errors ----


@pytest.mark.parametrize(
    ("arguments", "code", "hint"),
    [
        (["wake", "--webhook", "ftp://127.0.0.1/"], 1, "https"),
        (["wake", "--remove", UNKNOWN], 1, "not woken there"),
        (["wake", "--remove", "nothing"], 1, "target_id"),
        (["presence", UNKNOWN, "attended"], 1, "no such session"),
        (["presence", UNKNOWN, "sometimes"], 2, "sometimes"),
        (["presence", UNKNOWN, "disconnect", "--seconds", "-1"], 2, "--seconds"),
        (["presence", UNKNOWN, "disconnect", "--seconds", "86401"], 2, "--seconds"),
        (["presence", UNKNOWN, "disconnect", "--seconds", "nan"], 2, "--seconds"),
        (["add-device", "abc", "phone"], 2, "write a device's key, a public key"),
        (["add-device", "02" * 33, ""], 1, "name"),
        (["add-device", "02" * 33, "phone", "--right", "spend"], 2, "spend"),
        (["add-device", NODE_ID, "phone"], 1, "a fresh one"),
        (["revoke-device", "02" * 33], 1, "no such device"),
        (["take-over", CHANNEL], 1, "no such channel"),
        (["take-over", "all"], 1, "channel_id"),
        (["device-key", "/nonexistent/phone"], 1, "can't be written"),
        (["devices", "--device-key", "/nonexistent"], 1, "can't be read"),
        (["watch", "--device-key", "/nonexistent"], 1, "can't be read"),
        (["sessions", "--device-key", "/dev/null"], 1, "no device's key"),
        (["wake", "--relay", "http://127.0.0.1:1"], 1, "can't be reached"),
    ],
)
async def test_what_is_wrong_is_said_in_a_sentence(
    there: dict[str, str], arguments: list[str], code: int, hint: str
) -> None:
    ended, out, err = await run(*arguments, **there)
    assert (ended, out) == (code, "")
    assert hint in err


async def test_errors_in_json(there: dict[str, str]) -> None:
    code, out, err = await run("presence", UNKNOWN, "stay", "--json", **there)
    assert (code, out) == (1, "")
    assert json.loads(err)["error"]["code"] == "session_unknown"
    code, _, err = await run("devices", "--device-key", "/nonexistent", "--json", **there)
    assert (code, json.loads(err)["error"]["code"]) == (1, "KeystoreError")


async def test_a_wrong_passphrase_is_not_passed_over(there: dict[str, str], tmp_path: Path) -> None:
    """Who gave one wants more than to look on."""
    file = tmp_path / "phone"
    await add_device(file, **there)
    wrong = {**there, "LIGHTNING_PROXY_WALLET_PASSPHRASE": "wrong"}
    code, out, err = await run("watch", "--device-key", str(file), **wrong)
    assert (code, out) == (1, "")
    assert "does not open" in err
