import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from lightning_proxy.bolt.messages import Error, FundingCreated, Message, decode
from lightning_proxy.wallet import (
    Answered,
    ConnectionLost,
    Event,
    KeystoreError,
    MessageReceived,
    Policy,
    RecordError,
    ReferenceWallet,
    SessionClosed,
    WalletKeys,
    keystore,
    reference,
)
from tests.unit.wallet.samples import OPEN_CHANNEL, SEED, SESSION_ID, delegate, session_info
from tests.unit.wallet.scripted_relay import ScriptedRelay

FUNDING_CREATED = FundingCreated(
    temporary_channel_id=OPEN_CHANNEL.temporary_channel_id,
    funding_txid=b"\x07" * 32,
    funding_output_index=0,
    signature=bytes(64),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "wallet.json"
    reference.create(path, "a passphrase", keys=WalletKeys(SEED), cost=10)
    return path


@pytest_asyncio.fixture
async def relay() -> AsyncIterator[ScriptedRelay]:
    async with ScriptedRelay().listen() as relay:
        yield relay


async def test_from_a_question_to_the_error_that_frees_the_peers_funds(
    path: Path, relay: ScriptedRelay
) -> None:
    sent: list[Message] = []
    answers: list[dict[str, Any]] = []
    goodbye = asyncio.Event()

    async def play() -> None:
        envelope = delegate()
        question = msgspec.to_builtins(envelope)
        socket = await relay.let_in([session_info()])
        await socket.say(id=envelope.id, method="delegate", params=question)
        answers.append(await socket.hear())
        await socket.drop()
        socket = await relay.let_in([session_info()])
        await socket.say(id=envelope.id, method="delegate", params=question)
        raw = FUNDING_CREATED.encode().hex()
        message = {"session_id": SESSION_ID, "sequence": 2, "message": raw}
        await socket.say(method="message", params=message)
        closed = {"session_id": SESSION_ID, "reason": "done"}
        await socket.say(method="closed", params=closed)
        while len(answers) < 2 or not goodbye.is_set():
            frame = await socket.hear()
            match frame.get("method"):
                case "send":
                    sent.append(decode(bytes.fromhex(frame["params"]["message"])))
                    await socket.say(id=frame["id"], result={})
                case "sessions":
                    await socket.say(id=frame["id"], result=[session_info()])
                case "close":
                    goodbye.set()
                    await socket.say(id=frame["id"], result={})
                case None:
                    answers.append(frame)

    playing = asyncio.create_task(play())
    keys = keystore.load(path, "a passphrase")
    policy = Policy(chains=("regtest",))
    events: list[Event] = []
    async with ReferenceWallet(path, keys, relay.url, policy=policy) as wallet:
        async for event in wallet.watch():
            events.append(event)
            if isinstance(event, SessionClosed):
                break
        await wallet.client.close_session(SESSION_ID)
        await playing
        assert await wallet.record.channel_indices() == [0]
    assert any(isinstance(event, Answered) for event in events)
    assert any(isinstance(event, MessageReceived) for event in events)
    assert len(answers) == 2
    assert answers[0] == answers[1]
    # LDK knows the channel by its final id already, other peers by the temporary one.
    assert sent == [
        Error(channel_id=channel_id, data=b"this wallet cannot sign commitments yet")
        for channel_id in (OPEN_CHANNEL.temporary_channel_id, FUNDING_CREATED.funding_txid)
    ]


def test_creating_makes_both_files_or_none(tmp_path: Path) -> None:
    with pytest.raises(KeystoreError, match="empty"):
        reference.create(tmp_path / "wallet.json", "", cost=10)
    assert not list(tmp_path.iterdir())
    keys = reference.create(tmp_path / "wallet.json", "x", cost=10)
    assert {file.name for file in tmp_path.iterdir()} == {"wallet.json", "wallet.json.record"}
    with pytest.raises(RecordError, match="exists already"):
        reference.create(tmp_path / "wallet.json", "x", cost=10)
    assert keystore.load(tmp_path / "wallet.json", "x").node_id == keys.node_id


async def test_a_wallet_without_its_record_is_not_used(path: Path, relay: ScriptedRelay) -> None:
    reference.record_path(path).unlink()
    with pytest.raises(RecordError, match="missing"):
        await ReferenceWallet(path, WalletKeys(SEED), relay.url).__aenter__()


async def test_a_relay_that_is_not_there_leaves_the_record_closed(
    path: Path, unused_tcp_port: int
) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}"
    with pytest.raises(ConnectionLost):
        await ReferenceWallet(path, WalletKeys(SEED), url).__aenter__()
    # SQLite removes these with the last connection.
    assert {file.name for file in path.parent.iterdir()} == {"wallet.json", "wallet.json.record"}
