"""The command as a program of its own: what it prints, and how it ends."""

import json
import signal
from pathlib import Path

import msgspec
import pytest

from lightning_proxy.wallet import WalletKeys
from tests.unit.wallet.program import Program, run
from tests.unit.wallet.samples import (
    PEER_ADDRESS,
    SEED,
    SESSION_ID,
    delegate,
    open_channel,
    session_info,
)
from tests.unit.wallet.scripted_relay import ScriptedRelay

KEYS = WalletKeys(SEED)


async def test_creating_a_wallet_and_looking_at_it(tmp_path: Path) -> None:
    file = tmp_path / "new" / "wallet.json"
    secret = tmp_path / "passphrase"
    secret.write_text("a passphrase\n")
    arguments = ("--file", str(file), "--passphrase-file", str(secret), "--json")
    code, out, _ = await run("create", *arguments)
    created = json.loads(out)
    assert (code, created["file"]) == (0, str(file))
    code, out, _ = await run("info", "--file", str(file), "--json")
    info = json.loads(out)
    assert (code, info["node_id"]) == (0, created["node_id"])
    assert (info["channels_accepted"], info["answers"]) == (0, [])
    code, _, err = await run("create", *arguments)
    assert (code, json.loads(err)["error"]["code"]) == (1, "RecordError")


async def test_info_in_words(wallet: dict[str, str]) -> None:
    code, out, _ = await run("info", **wallet)
    assert code == 0
    assert KEYS.node_id.hex() in out


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "hint"),
    [
        (["info", "--file", "/nonexistent/wallet.json"], {}, 1, "create one first"),
        (["sessions"], {}, 2, "--relay"),
        (["sessions", "--relay", "nonsense"], {}, 2, "no relay URL"),
        (["connect", "nobody", "--relay", "http://127.0.0.1:1"], {}, 2, "write pubkey@host:port"),
        (["watch", "--relay", "http://127.0.0.1:1", "--approve", "maybe"], {}, 2, "--approve"),
        (["sessions", "--relay", "http://127.0.0.1:1"], {}, 1, "can't be reached"),
        (
            ["sessions", "--relay", "http://127.0.0.1:1"],
            {"LIGHTNING_PROXY_WALLET_PASSPHRASE": "wrong"},
            1,
            "does not open",
        ),
        (
            ["watch", "--relay", "http://127.0.0.1:1", "--policy", "/nonexistent"],
            {},
            1,
            "can't be read",
        ),
        (["sessions", "--passphrase-file", "/nonexistent", "--relay", "http://a"], {}, 2, "read"),
    ],
)
async def test_what_is_wrong_is_said_in_a_sentence(
    wallet: dict[str, str],
    arguments: list[str],
    environment: dict[str, str],
    code: int,
    hint: str,
) -> None:
    ended, out, err = await run(*arguments, **{**wallet, **environment})
    assert (ended, out) == (code, "")
    assert hint in err


async def test_without_passphrase_and_terminal_it_says_how(wallet: dict[str, str]) -> None:
    del wallet["LIGHTNING_PROXY_WALLET_PASSPHRASE"]
    code, _, err = await run("sessions", "--relay", "http://127.0.0.1:1", **wallet)
    assert code == 2
    assert "--passphrase-file" in err


async def test_connecting_listing_and_closing(wallet: dict[str, str], relay: ScriptedRelay) -> None:
    wallet |= {"LIGHTNING_PROXY_RELAY": relay.url, "LIGHTNING_PROXY_TOKEN": "a-token"}
    program = await Program.start("connect", PEER_ADDRESS, "--json", **wallet)
    socket = await relay.let_in()
    assert socket.headers["Authorization"] == "Bearer a-token"
    await socket.serve_connect(SESSION_ID)
    code, out, _ = await program.end()
    assert (code, json.loads(out)["session_id"]) == (0, SESSION_ID)

    for json_option in ((), ("--json",)):
        program = await Program.start("sessions", *json_option, **wallet)
        socket = await relay.let_in()
        request_id, _ = await socket.hear_request("sessions")
        await socket.say(id=request_id, result=[session_info()])
        code, out, _ = await program.end()
        assert code == 0
        assert SESSION_ID in out
        # The list has the node id and where it is apart.
        assert all(
            part in out for part in ([PEER_ADDRESS] if json_option else PEER_ADDRESS.split("@"))
        )

    program = await Program.start("close", SESSION_ID, **wallet)
    socket = await relay.let_in()
    request_id, _ = await socket.hear_request("close")
    error = {"code": -32002, "message": "No\x1b[31m such.", "data": {"code": "session_unknown"}}
    await socket.say(id=request_id, error=error)
    code, _, err = await program.end()
    assert code == 1
    assert "No?[31m such." in err  # what a stranger says does not reach the terminal as it is


async def test_watching_and_approving_by_hand(
    wallet: dict[str, str], relay: ScriptedRelay, policy: str
) -> None:
    program = await Program.start(
        "watch", "--relay", relay.url, "--policy", policy, "--json", **wallet
    )
    socket = await relay.let_in()
    await program.until("watching")
    answers = []
    for number, word in ((1, "y"), (2, "n")):
        envelope = delegate(number)
        await socket.say(id=envelope.id, method="delegate", params=msgspec.to_builtins(envelope))
        question = await program.until("question")
        assert (question["number"], question["delegation_id"]) == (number, envelope.id)
        program.type(f"{word} {number}\n")
        answers.append(await socket.hear())
    assert answers[0]["result"]["channel_type"] == "401000"
    assert "declined" in answers[1]["error"]["message"]
    await program.until("refused")
    program.process.send_signal(signal.SIGINT)
    assert await socket.hear_close() is not None
    code, _, _ = await program.end()
    assert code == 0
    code, out, _ = await run("info", **wallet)
    assert "answered, for channel 0" in out
    assert "refused: the owner of this node declined" in out


@pytest.mark.parametrize(("approve", "outcome"), [("policy", "answered"), ("refuse", "refused")])
async def test_watching_without_asking(
    wallet: dict[str, str], relay: ScriptedRelay, policy: str, approve: str, outcome: str
) -> None:
    program = await Program.start(
        "watch", "--relay", relay.url, "--policy", policy, "--approve", approve, "--json", **wallet
    )
    socket = await relay.let_in()
    envelope = delegate()
    await socket.say(id=envelope.id, method="delegate", params=msgspec.to_builtins(envelope))
    delegation = await program.until("delegation")
    assert delegation["open_channel"]["funding_satoshis"] == 1_000_000
    assert (await program.until(outcome))["delegation_id"] == envelope.id
    program.process.send_signal(signal.SIGTERM)
    await socket.hear()
    await socket.hear_close()
    assert (await program.end())[0] == 0


async def test_watching_in_words(wallet: dict[str, str], relay: ScriptedRelay, policy: str) -> None:
    program = await Program.start(
        "connect", PEER_ADDRESS, "--watch", "--relay", relay.url, "--policy", policy, **wallet
    )
    socket = await relay.let_in()
    await socket.serve_connect(SESSION_ID)
    envelope = delegate(1, open_channel(push_msat=1_234_567))
    await socket.say(id=envelope.id, method="delegate", params=msgspec.to_builtins(envelope))
    assert program.process.stdin is not None
    program.process.stdin.close()  # nobody is there to answer: no
    assert "declined" in (await socket.hear())["error"]["message"]
    closed = {"session_id": SESSION_ID, "reason": "the \x1b]0;peer hung up"}
    await socket.say(method="closed", params=closed)
    shown = await program.shown_until("is over:")
    program.process.send_signal(signal.SIGINT)
    await socket.hear_close()
    code, out, _ = await program.end()
    assert code == 0
    for words in (
        "wants to open a private channel on regtest",
        "amount   1,000,000 sat",
        "pushes   1,234.567 sat",
        "option_static_remotekey, option_anchors",
        "253 sat/kw (1.0 sat/vB)",
        "Refused: the owner of this node declined the channel.",
        "is over: the ?]0;peer hung up.",
    ):
        assert words in shown + out


async def test_an_interrupted_command_says_so_by_its_code(
    wallet: dict[str, str], relay: ScriptedRelay
) -> None:
    program = await Program.start("sessions", "--relay", relay.url, **wallet)
    socket = await relay.let_in()
    await socket.hear_request("sessions")
    program.process.send_signal(signal.SIGINT)
    await socket.hear_close()
    assert (await program.end())[0] == 130
