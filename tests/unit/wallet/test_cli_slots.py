"""`wallet slots`, `leave-slots` and `remove-slot`, as programs of their own, at a real relay."""

import json
import secrets
from collections.abc import AsyncIterator
from operator import itemgetter
from pathlib import Path

import pytest

from lightning_proxy.api import Server
from lightning_proxy.bolt.channel import ChannelState
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.messages import FundingSigned, decode
from lightning_proxy.wallet import Record, files, keystore
from tests.support.opening import Side
from tests.support.peer import ScriptedPeer
from tests.support.relay import relay as real_relay
from tests.support.relay import take
from tests.unit.wallet.program import Program, run
from tests.unit.wallet.samples import PEER

ANCHORS, ALIASED = "401000", "400000401000"


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with real_relay(max_slots_per_wallet=5) as server:
        yield server


@pytest.fixture
def there(wallet: dict[str, str], server: Server) -> dict[str, str]:
    """The environment of a wallet that has this relay."""
    return {**wallet, "LIGHTNING_PROXY_RELAY": server.url}


@pytest.fixture
def narrow_policy(tmp_path: Path) -> str:
    path = tmp_path / "narrow.toml"
    path.write_text('chains = ["regtest"]\nmin_funding_sat = 70000\nallow_scid_alias = false\n')
    return str(path)


async def test_slots_are_left_listed_and_removed(there: dict[str, str]) -> None:
    assert await run("slots", **there) == (0, "No key slots.\n", "")
    code, out, _ = await run(
        "leave-slots", "2", "--max-sat", "1000000", "--min-sat", "50000", "--json",
        "--type", "anchors", "--peer", PEER.hex(), "--peer", PEER.hex().upper(), **there,
    )  # fmt: skip
    left = [json.loads(line) for line in out.splitlines()]
    assert (code, len(left)) == (0, 2)
    for slot in left:
        assert slot["policy"] == {
            "min_funding_sat": 50_000,
            "max_funding_sat": 1_000_000,
            "peers": [PEER.hex()] * 2,
            "channel_types": [ANCHORS, ALIASED],
        }
        assert "used" not in slot
    assert len({slot["funding_pubkey"] for slot in left}) == 2
    code, out, _ = await run("slots", "--json", **there)
    listed = [json.loads(line) for line in out.splitlines()]
    # Both were left at the same moment.
    by_id = itemgetter("slot_id")
    assert (code, sorted(listed, key=by_id)) == (0, sorted(left, key=by_id))
    removed = left[0]["slot_id"]
    code, out, _ = await run("remove-slot", removed, **there)
    assert (code, out) == (0, f"Removed key slot {removed}.\n")
    code, out, _ = await run("slots", "--json", **there)
    assert ["used" in json.loads(line) for line in out.splitlines()] == [False, True]
    code, out, _ = await run("slots", **there, COLUMNS="400")
    assert code == 0
    for words in (removed, "50,000 to 1,000,000 sat", "option_static_remotekey, option_anchors"):
        assert words in out


async def test_a_device_lists_and_removes_them_without_the_passphrase(
    there: dict[str, str], tmp_path: Path
) -> None:
    file = str(tmp_path / "phone")
    key = json.loads((await run("device-key", file, "--json", **there))[1])["device_key"]
    await run("add-device", key, "phone", "--right", "see", "--right", "answer", **there)
    left = json.loads((await run("leave-slots", "1", "--json", **there))[1])
    del there["LIGHTNING_PROXY_WALLET_PASSPHRASE"]
    code, out, err = await run("slots", "--device-key", file, "--json", **there)
    assert (code, json.loads(out), err) == (0, left, "")
    slot = left["slot_id"]
    code, out, _ = await run("remove-slot", slot, "--device-key", file, "--json", **there)
    assert (code, json.loads(out)) == (0, {"slot_id": slot})
    code, out, err = await run("remove-slot", slot, "--device-key", file, **there)
    assert (code, out, "no free slot" in err) == (1, "", True)


async def test_the_policy_bounds_what_is_left(there: dict[str, str], narrow_policy: str) -> None:
    policy = narrow_policy
    code, out, _ = await run("leave-slots", "1", "--policy", policy, "--json", **there)
    assert code == 0
    assert json.loads(out)["policy"] == {
        "min_funding_sat": 70_000,
        "max_funding_sat": 16_777_215,
        "channel_types": ["1000", ANCHORS],
    }
    code, out, err = await run(
        "leave-slots", "1", "--max-sat", "69999", "--policy", policy, **there
    )
    assert (code, out) == (1, "")
    assert "accepts no channel" in err


async def test_what_was_left_is_no_channel_in_the_wallets_count(there: dict[str, str]) -> None:
    await run("leave-slots", "3", **there)
    code, out, _ = await run("info", "--json", **there)
    assert (code, json.loads(out)["channels_accepted"]) == (0, 0)


@pytest.mark.parametrize(
    ("arguments", "code", "hint"),
    [
        (["leave-slots", "0"], 2, "COUNT"),
        (["leave-slots", "101"], 2, "COUNT"),
        (["leave-slots", "1", "--max-sat", "0"], 2, "--max-sat"),
        (["leave-slots", "1", "--max-sat", "5", "--min-sat", "6"], 1, "accepts no channel"),
        (["leave-slots", "1", "--peer", "alice"], 2, "write a node id"),
        (["leave-slots", "1", "--peer", "02" * 33 + "02"], 2, "write a node id"),
        (["leave-slots", "1", "--type", "taproot"], 2, "write static_remotekey or anchors"),
        (["leave-slots", "6"], 1, "5 key slots at a time"),
        (["remove-slot", "11" * 16], 1, "no free slot of that id"),
        (["remove-slot", "nothing"], 1, "slot_id"),
        (["slots", "--relay", "http://127.0.0.1:1"], 1, "can't be reached"),
    ],
)
async def test_what_is_wrong_is_said_in_a_sentence(
    there: dict[str, str], arguments: list[str], code: int, hint: str
) -> None:
    ended, out, err = await run(*arguments, **there)
    assert (ended, out) == (code, "")
    assert hint in err


async def test_a_channel_is_accepted_between_two_commands_and_signed_by_the_next(
    there: dict[str, str], policy: str
) -> None:
    """All of a wallet's life is in its file: no process of it runs when the peer comes."""
    async with ScriptedPeer(secrets.token_bytes(32)).serve() as peer:
        connecting = await Program.start("connect", peer.address, **there)
        connection = await take(peer)
        assert (await connecting.end())[0] == 0
        code, out, _ = await run("leave-slots", "1", "--policy", policy, "--json", **there)
        assert code == 0
        left = json.loads(out)
        side = Side(Role.OPENER)
        await connection.send(side.say(side.open_channel(funding_satoshis=1_000_000)))
        side.hear(await connection.receive())
        assert side.channel.accept_channel.funding_pubkey.hex() == left["funding_pubkey"]
        await connection.send(side.say(side.funding_created()))
        # Looking takes nothing away from who answers.
        code, out, _ = await run("slots", "--json", **there)
        assert (code, "used" in json.loads(out)) == (0, True)
        watching = await Program.start(
            "watch", "--json", "--approve", "refuse", "--policy", policy, **there
        )
        used = await watching.until("slot_used")
        assert used["slot_id"] == left["slot_id"]
        raw = await connection.receive()
        assert isinstance(decode(raw), FundingSigned)
        side.hear(raw)
        assert side.channel.state is ChannelState.SIGNED
        watching.process.terminate()
        assert (await watching.end())[0] == 0
    file = Path(there["LIGHTNING_PROXY_WALLET_FILE"])
    async with Record(files.record_path(file), keystore.read_node_id(file)) as record:
        (stored,) = await record.channels()
        assert stored.channel().channel_id == side.channel.channel_id
