"""`wallet channels` and `wallet open`, as programs of their own."""

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from btclib.tx import TxOut

from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.messages import Error
from lightning_proxy.chain.simulated import SimulatedChain
from lightning_proxy.rpc import Delegate, DelegationKind
from lightning_proxy.wallet import files
from lightning_proxy.wallet.request import read_request
from lightning_proxy.wallet.signer import ask
from tests.unit.wallet.openings import CONFIRMED, Opening, SigningWallet, psbt
from tests.unit.wallet.play import ByRelay, Play
from tests.unit.wallet.program import Program, run
from tests.unit.wallet.samples import PEER, PEER_ADDRESS, SESSION_ID, session_info
from tests.unit.wallet.scripted_relay import ScriptedRelay


def record_of(wallet: dict[str, str]) -> Path:
    return files.record_path(Path(wallet["LIGHTNING_PROXY_WALLET_FILE"]))


@pytest_asyncio.fixture
async def opening(wallet: dict[str, str]) -> AsyncIterator[Opening]:
    """A channel of 1,000,000 sat, of which 200,000 were pushed; both have signed."""
    async with SigningWallet(record_of(wallet)) as signing:
        opening = Opening(signing)
        await opening.accept(push_msat=200_000_001)
        yield opening


async def test_there_may_be_no_channels(wallet: dict[str, str]) -> None:
    assert await run("channels", **wallet) == (0, "No channels.\n", "")
    assert await run("channels", "--json", **wallet) == (0, "", "")


async def test_channels_without_a_chain(wallet: dict[str, str], opening: Opening) -> None:
    await opening.sign()
    del wallet["LIGHTNING_PROXY_WALLET_PASSPHRASE"]
    code, out, _ = await run("channels", **wallet, COLUMNS="400")
    assert code == 0
    for words in (
        opening.channel_id.hex(),
        "waiting for confirmations",
        "1,000,000 sat",
        "0.000 sat (and 200,000.001 sat unproved)",
        "799,999.999 sat",
        "unknown of 1",
        "option_static_remotekey, option_anchors",
        "the peer",
    ):
        assert words in out
    code, out, _ = await run("channels", "--json", **wallet)
    shown = json.loads(out)
    assert (code, shown["channel_id"], shown["funding"]) == (0, opening.channel_id.hex(), None)
    assert (shown["our_balance_msat"], shown["unproved_msat"]) == (0, 200_000_001)


async def test_an_old_copy_is_told_as_one(wallet: dict[str, str], opening: Opening) -> None:
    reason = "the relay has a channel that it does not have"
    await opening.wallet.record.change(lambda ledger: ledger.set_outdated(reason))
    code, _, err = await run("channels", **wallet)
    assert code == 0
    assert f"NOT IN THE RECORD: {reason}." in err
    assert "Bring back the latest record." in err


async def test_channels_by_the_wallets_own_chain(wallet: dict[str, str], opening: Opening) -> None:
    async with SimulatedChain() as chain:
        raw, _ = chain.faucet(opening.peer.channel.funding_scriptpubkey, 1_000_000)
        await opening.sign(chain.add_transaction(raw))
        chain.mine(2)
        wallet["LIGHTNING_PROXY_WALLET_CHAIN"] = chain.url
        code, out, _ = await run("channels", **wallet, COLUMNS="400")
    assert code == 0
    assert "2 of 1 (by the own chain source)" in out
    assert "200,000.001 sat" in out
    assert "unproved" not in out


async def test_channels_by_the_relay(
    wallet: dict[str, str], opening: Opening, relay: ScriptedRelay
) -> None:
    await opening.sign()
    program = await Program.start("channels", "--relay", relay.url, **wallet, COLUMNS="400")
    listed = {
        "channel_id": opening.channel_id.hex(),
        "temporary_channel_id": opening.temporary_id.hex(),
        "peer": PEER.hex(),
        "state": "signed",
        "funding": {"confirmations": 7},
        "messages": [],
    }
    playing = asyncio.create_task(Play(await relay.let_in(), [listed]).run())
    code, out, _ = await program.end()
    await playing
    assert code == 0
    assert "7 of 1 (by the relay)" in out
    assert "unproved" in out


@pytest.mark.parametrize(
    ("flag", "variable", "value"),
    [
        ("--chain", "LIGHTNING_PROXY_WALLET_CHAIN", "esplora+http://a:x7-secret@127.0.0.1:1"),
        ("--token", "LIGHTNING_PROXY_TOKEN", "x7-secret"),
    ],
)
async def test_a_secret_among_the_arguments_is_told(
    wallet: dict[str, str], flag: str, variable: str, value: str
) -> None:
    _, _, err = await run("channels", flag, value, **wallet)
    assert err.startswith(f"Warning: {flag}: It stands in the list of processes")
    assert f"set {variable} instead" in err
    _, _, err = await run("channels", **wallet, **{variable: value})
    assert "Warning" not in err


@pytest.mark.parametrize(
    ("arguments", "code", "hint"),
    [
        (["channels", "--chain", "gopher://nowhere"], 2, "--chain"),
        (["channels", "--chain", "esplora+http://127.0.0.1:1"], 1, "Error"),
        (["channels", "--relay", "nonsense"], 2, "no relay URL"),
        (["open", "nobody", "1", "--relay", "http://127.0.0.1:1"], 2, "write pubkey@host:port"),
        (["open", PEER_ADDRESS, "0", "--relay", "http://127.0.0.1:1"], 2, "AMOUNT_SAT"),
        (
            ["open", PEER_ADDRESS, "1", "--relay", "http://127.0.0.1:1", "--type", "legacy"],
            2,
            "anchors or static_remotekey",
        ),
        (["open", PEER_ADDRESS, "1", "--relay", "http://127.0.0.1:1"], 1, "can't be reached"),
    ],
)
async def test_what_is_wrong_is_said_in_a_sentence(
    wallet: dict[str, str], arguments: list[str], code: int, hint: str
) -> None:
    ended, out, err = await run(*arguments, **wallet)
    assert (ended, out) == (code, "")
    assert hint in err


# ---- open ----


@dataclass
class Run:
    """`wallet open` under way: the peer has been offered a channel."""

    program: Program
    play: Play
    opening: Opening

    async def accept(self) -> asyncio.Task[None]:
        """The peer accepts; the returned task ends when the owner has paid."""
        return asyncio.create_task(self._create())

    async def _create(self) -> None:
        opening = self.opening
        raw = opening.peer_says(
            opening.peer.say(opening.peer.accept_channel(channel_reserve_satoshis=5_000))
        )
        answer = await opening.wallet.ask(DelegationKind.FUNDING_CREATED, opening.temporary_id, raw)
        opening.peer.hear(opening.settle(DelegationKind.FUNDING_CREATED, answer))

    def paid(self, amount_sat: int = 500_000) -> str:
        script = self.opening.relay.funding_scriptpubkey
        return psbt(TxOut(amount_sat, script)).b64encode()


@contextlib.asynccontextmanager
async def opened(
    wallet: dict[str, str], relay: ScriptedRelay, policy: str, *arguments: str
) -> AsyncIterator[Run]:
    program = await Program.start(
        "open", PEER_ADDRESS, "500000", "--relay", relay.url, "--policy", policy, "--json",
        *arguments, **wallet,
    )  # fmt: skip
    play = Play(await relay.let_in([session_info()]), [])
    play.sessions = [session_info()]
    playing = asyncio.create_task(play.run())
    try:
        raw = await asyncio.wait_for(play.offered.get(), 30)
        offered = await program.line()
        async with ByRelay(play, record_of(wallet)) as by_relay:
            opening = Opening(by_relay, Role.OPENER)
            opening.relay.send(raw)
            opening.peer.hear(raw)
            assert offered["temporary_channel_id"] == opening.temporary_id.hex()
            assert (offered["event"], offered["session_id"]) == ("offered", SESSION_ID)
            yield Run(program, play, opening)
    finally:
        playing.cancel()
        await asyncio.gather(playing, return_exceptions=True)
        if program.process.returncode is None:
            program.process.kill()
            await program.process.wait()


async def test_opening_a_channel_with_a_line_of_input(
    wallet: dict[str, str], relay: ScriptedRelay, policy: str
) -> None:
    arguments = ("--push-msat", "7000", "--type", "static_remotekey")
    async with opened(wallet, relay, policy, *arguments) as at:
        wanted = at.opening.relay.open_channel
        assert (wanted.push_msat, wanted.channel_type, wanted.channel_flags) == (
            7_000,
            bytes.fromhex("1000"),
            0,
        )
        creating = await at.accept()
        asked = await at.program.until("funding_wanted")
        assert (asked["amount_sat"], asked["chain"]) == (500_000, "regtest")
        assert asked["scriptpubkey"] == at.opening.relay.funding_scriptpubkey.hex()
        assert asked["address"].startswith("bcrt1q")
        # What won't do is told, and may be done better.
        at.program.type(f"nonsense\n\n{at.paid(499_999)}\n{at.paid()}\n")
        await creating
        released = await at.opening.release()
        assert released.transaction is not None
        await at.program.until("released")
        code, _, err = await at.program.end()
        assert code == 0
        assert "That is no PSBT" in err
        assert "499999 sat to the funding address" in err


async def test_opening_a_channel_with_a_file_until_it_is_open(
    wallet: dict[str, str], relay: ScriptedRelay, policy: str, tmp_path: Path
) -> None:
    file = tmp_path / "signed.psbt"
    async with opened(wallet, relay, policy, "--psbt-file", str(file), "--wait") as at:
        creating = await at.accept()
        await at.program.until("funding_wanted")
        file.write_text(at.paid())
        await creating
        await at.opening.release()
        await at.program.until("released")
        await at.opening.ready()
        await at.play.tell(at.opening.peer_ready())
        assert (await at.program.until("channel_opened"))["peer"] == PEER.hex()
        assert (await at.program.end())[0] == 0


async def test_nobody_pays(wallet: dict[str, str], relay: ScriptedRelay, policy: str) -> None:
    async with opened(wallet, relay, policy) as at:
        creating = await at.accept()
        await at.program.until("funding_wanted")
        assert at.program.process.stdin is not None
        at.program.process.stdin.close()
        with pytest.raises(KeyError, match="result"):  # an error came instead
            await creating
        assert (await at.program.until("refused"))["reason"] == "nobody pays for the channel"
        code, _, err = await at.program.end()
        assert code == 1
        assert "The channel was not opened: nobody pays" in err


async def test_a_peer_that_fails_the_channel(
    wallet: dict[str, str], relay: ScriptedRelay, policy: str
) -> None:
    async with opened(wallet, relay, policy) as at:
        await at.play.tell(Error(channel_id=at.opening.temporary_id, data=b"too\x1bsmall").encode())
        code, _, err = await at.program.end()
        assert code == 1
        assert 'The peer failed the channel: "too?small".' in json.loads(err)["error"]["sentence"]


async def test_a_connection_that_is_gone(
    wallet: dict[str, str], relay: ScriptedRelay, policy: str
) -> None:
    async with opened(wallet, relay, policy) as at:
        await at.play.close()
        code, _, err = await at.program.end()
        assert code == 1
        assert "connection to the peer is gone: the peer hung up" in err


async def test_a_relay_that_broadcasts_nothing(
    wallet: dict[str, str], relay: ScriptedRelay, policy: str
) -> None:
    async with opened(wallet, relay, policy) as at:
        creating = await at.accept()
        await at.program.until("funding_wanted")
        at.program.type(f"{at.paid()}\n")
        await creating
        signed = at.opening.peer_says(at.opening.peer.say(at.opening.peer.funding_signed()))
        delegate = at.opening.wallet.delegate(
            DelegationKind.FUNDING_TRANSACTION, at.opening.channel_id, signed
        )
        at.play.on_sessions = {
            "method": "rejected",
            "params": {"id": delegate.id, "code": "answer_invalid", "reason": "Do it yourself."},
        }
        answer = await at.play.ask(delegate)
        code, _, err = await at.program.end()
        assert code == 1
        assert (
            f"Do it yourself. Both sides have signed, so do it yourself: {answer.transaction}"
            in (json.loads(err)["error"]["sentence"])
        )


async def answered_elsewhere(at: Run, delegate: Delegate) -> Any:
    """Another process with the same wallet's file is faster, and the relay says so at once."""
    answer = await ask(at.opening.wallet.signer, read_request(delegate))
    say = at.play.socket.say
    await say(id=delegate.id, method="delegate", params=msgspec.to_builtins(delegate))
    voided = {"id": delegate.id, "reason": "another device answered"}
    await say(method="voided", params=voided)
    return answer


async def test_what_another_process_of_the_wallets_answered_is_this_wallets_answer(
    wallet: dict[str, str], relay: ScriptedRelay, policy: str
) -> None:
    async with opened(wallet, relay, policy, "--wait") as at:
        opening = at.opening
        creating = await at.accept()
        await at.program.until("funding_wanted")
        at.program.type(f"{at.paid()}\n")
        await creating
        signed = opening.peer_says(opening.peer.say(opening.peer.funding_signed()))
        delegate = opening.wallet.delegate
        kind = DelegationKind.FUNDING_TRANSACTION
        await answered_elsewhere(at, delegate(kind, opening.channel_id, signed))
        await at.program.until("released")
        channel = opening.relay
        channel.observe(channel.funding_scriptpubkey, 500_000, 1000)
        # The peer is ready first: it is the answer that opens the channel.
        await at.play.tell(opening.peer_ready())
        kind = DelegationKind.CHANNEL_READY
        await answered_elsewhere(at, delegate(kind, opening.channel_id, funding=CONFIRMED))
        assert (await at.program.until("channel_opened"))["peer"] == PEER.hex()
        assert (await at.program.end())[0] == 0


async def test_an_interrupted_opening(
    wallet: dict[str, str], relay: ScriptedRelay, policy: str
) -> None:
    async with opened(wallet, relay, policy) as at:
        at.program.process.send_signal(signal.SIGINT)
        assert (await at.program.end())[0] == 130
