"""Whatever the schema allows passes: each message at its largest, at a real relay and SDK."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from lightning_proxy import rpc
from lightning_proxy.api import Server, methods
from lightning_proxy.api.openapi import METHODS
from lightning_proxy.api.socket import WalletSocket
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.messages import Message, decode
from lightning_proxy.relay.channel_messages import LONGEST
from lightning_proxy.rpc import (
    ANSWERS,
    LIST_BYTES,
    MAX_FRAME_TO_RELAY,
    MAX_FRAME_TO_WALLET,
    MAX_SENTENCE,
    PAGE_BYTES,
    ErrorCode,
    Integers,
    Rejected,
    RpcError,
    encode_error,
    encode_notification,
    encode_request,
    encode_result,
)
from lightning_proxy.rpc import lists as rpc_lists
from lightning_proxy.wallet import Wallet, WalletKeys
from lightning_proxy.wallet.errors import RelayError
from tests.support.largest import Unbounded, largest, size_of, variants
from tests.support.opening import Side
from tests.support.peer import PeerConnection, ScriptedPeer
from tests.support.relay import PEER_INIT, RawWallet, raw_wallet, relay

KEYS = WalletKeys(b"\x78" * 32)
SECRET = KEYS._node_secret
#: A message's length is two bytes (BOLT #8).
MAX_MESSAGE = 65_535
#: So many bytes of it are an odd record's type and length.
HUGE_TYPE = 65_535
MANY = 34

FROM_WALLETS = [name for name, (_, _, sender) in METHODS.items() if sender == "wallet"]
FROM_RELAYS = [name for name, (_, _, sender) in METHODS.items() if sender == "relay"]
ELEMENTS = {
    page: page.__orig_bases__[0].__args__[0]  # type: ignore[attr-defined]
    for page in vars(rpc_lists).values()
    if isinstance(page, type) and issubclass(page, rpc.Page) and page is not rpc.Page
}


class Pair:
    """A wallet's SDK and its socket at the relay; `received` are the frames that reached it."""

    def __init__(self, wallet: Wallet, socket: WalletSocket, received: list[str]) -> None:
        self.wallet, self.socket, self.received = wallet, socket, received

    async def reaches_the_wallet(self, text: str) -> None:
        self.socket._post(text)
        async with asyncio.timeout(30):
            while text not in self.received:
                await asyncio.sleep(0.01)
        self.received.clear()


@asynccontextmanager
async def connected(integers: Integers = Integers.NUMBER) -> AsyncIterator[Pair]:
    """With the least room that an operator can give a socket."""
    received: list[str] = []

    def on_frame(direction: str, text: str) -> None:
        if direction == "received":
            received.append(text)

    async with (
        relay(max_queued_bytes_per_socket=65_536) as server,
        Wallet(server.url, WalletKeys.generate(), on_frame=on_frame) as wallet,
    ):
        (socket,) = server._sockets
        socket._integers = integers
        yield Pair(wallet, socket, received)
        # The same socket is still there.
        assert set(server._sockets) == {socket}
        assert not wallet._online.result()._socket.closed


def replaying(results: dict[str, Any], heard: list[Any]) -> Callable[..., methods.Methods]:
    """The relay's methods, as far as their frames go: what they take, and what they return."""

    def handler_of(name: str) -> Callable[[Any], Any]:
        def handle(wanted: Any) -> Any:
            heard.append(wanted)
            return results[name]

        return handle

    def methods_of(*_: object) -> methods.Methods:
        return {name: (METHODS[name][0], handler_of(name)) for name in FROM_WALLETS}

    return methods_of


@pytest.mark.parametrize("integers", Integers)
async def test_every_method_at_its_largest(
    monkeypatch: pytest.MonkeyPatch, integers: Integers
) -> None:
    results: dict[str, Any] = {}
    heard: list[Any] = []
    monkeypatch.setattr("lightning_proxy.api.socket.methods_of", replaying(results, heard))
    monkeypatch.setitem(methods.RIGHTS, "authenticate", None)
    async with connected(integers) as pair:
        for name in FROM_WALLETS:
            parameters, result, _ = METHODS[name]
            wanted = largest(parameters)
            for results[name] in variants(result):
                got = await pair.wallet.request(name, wanted, result)
                assert got == results[name], name
                assert heard.pop() == wanted


@pytest.mark.parametrize("integers", Integers)
async def test_all_that_a_relay_says_by_itself(integers: Integers) -> None:
    async with connected(integers) as pair:
        for name in FROM_RELAYS:
            said = largest(METHODS[name][0])
            if name == "delegate":
                await pair.reaches_the_wallet(encode_request(said.id, name, said, integers))
            else:
                await pair.reaches_the_wallet(encode_notification(name, said, integers))


async def test_every_answer_at_its_largest() -> None:
    async with connected() as pair:
        events = pair.wallet.events()

        async def is_heard(text: str, delegation_id: str) -> None:
            await pair.wallet._reply(text)
            async with asyncio.timeout(30):
                rejected = await anext(events)
            assert isinstance(rejected, Rejected), rejected
            assert (rejected.id, rejected.code) == (delegation_id, "delegation_unknown")

        for number, answer in enumerate(ANSWERS.values()):
            delegation_id = f"{number:032x}"
            await is_heard(encode_result(delegation_id, largest(answer)), delegation_id)
        no = RpcError(ErrorCode.REFUSED, "\x01" * MAX_SENTENCE)
        await is_heard(encode_error("e" * 32, no), "e" * 32)


def test_what_comes_back_of_a_request_is_bounded_too() -> None:
    long = RpcError(ErrorCode.INVALID_PARAMS, "\x01" * MAX_FRAME_TO_RELAY)
    assert len(encode_error("\x01" * 256, long)) < 10_000
    for request_id in ('"' + "i" * 257 + '"', str(2**63)):
        with pytest.raises(RpcError):
            rpc.decode_envelope(f'{{"jsonrpc":"2.0","id":{request_id},"method":"sessions"}}')


@pytest.mark.parametrize(("page", "element"), ELEMENTS.items())
def test_any_element_fits_a_page(page: type, element: type) -> None:
    assert len(ELEMENTS) == 5
    assert size_of(largest(element)) < PAGE_BYTES


def test_what_has_no_bound_is_found() -> None:
    class New(msgspec.Struct):
        text: str

    for kind in (New, list[int], int, dict[str, int], list[Any]):
        with pytest.raises(Unbounded):
            largest(kind)


async def test_frames_of_exactly_the_limit() -> None:
    async with connected() as pair:
        await pair.reaches_the_wallet("x" * MAX_FRAME_TO_WALLET)
        await pair.wallet._reply("x" * MAX_FRAME_TO_RELAY)
        async with asyncio.timeout(30):
            while not any("parse_error" in text for text in pair.received):
                await asyncio.sleep(0.01)
        # What no relay takes does not cost the connection.
        with pytest.raises(RelayError) as refused:
            await pair.wallet._reply("x" * (MAX_FRAME_TO_RELAY + 1))
        assert refused.value.code == "too_large"


# ---- what strangers can fill up ----


def huge(message: Message) -> bytes:
    """The message, as long as there can be one, by a record that nobody has to understand."""
    record = (HUGE_TYPE, bytes(MAX_MESSAGE - len(message.encode()) - 6))
    raw = msgspec.structs.replace(message, unknown_tlvs=(record,)).encode()
    assert len(raw) == MAX_MESSAGE
    return raw


async def open_up_to_signed(wallet: RawWallet, connection: PeerConnection, *, is_huge: bool) -> str:
    """A channel that is signed by both, and has no coins anywhere; returns its id."""
    peer, ours = Side(Role.OPENER), Side(Role.ACCEPTER)
    raw = peer.say(peer.open_channel())
    await connection.send(raw)
    question = await wallet.event_of("delegate")
    ours.hear(raw)
    await wallet.answer(question, ours.channel_keys())
    accept = await connection.receive()
    peer.hear(accept)
    ours.channel.send(accept)
    created = peer.funding_created()
    raw = huge(created) if is_huge else created.encode()
    peer.channel.send(raw)
    await connection.send(raw)
    question = await wallet.event_of("delegate")
    assert question["messages"] == [raw.hex()]
    assert (question["decoded"] == []) is is_huge
    ours.hear(raw)
    signed = ours.funding_signed()
    await wallet.answer(question, {"signature": signed.signature.hex()})
    assert await connection.receive() == signed.encode()
    return ours.channel.channel_id.hex()


async def pages(wallet: RawWallet, method: str, name: str, **wanted: Any) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    after: dict[str, str] = {}
    while True:
        page = await wallet.call(method, **{**wanted, **after})
        assert page["items"] or not items
        assert len(json.dumps(page["items"], separators=(",", ":"))) <= PAGE_BYTES
        items += page["items"]
        if "next" not in page:
            break
        assert page["next"] == page["items"][-1][name]
        after = {"after": page["next"]}
    assert [each[name] for each in items] == sorted({each[name] for each in items})
    return items


def allow_huge(monkeypatch: pytest.MonkeyPatch) -> None:
    for type_ in LONGEST:
        monkeypatch.setitem(LONGEST, type_, MAX_MESSAGE)


async def test_channels_filled_up_by_a_stranger(
    server: Server, peer: ScriptedPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Lists are read from the disk in several goes.
    monkeypatch.setattr("lightning_proxy.relay.relay._CHANNELS_AT_ONCE", 4)
    # As when there was no cap on what is kept: such channels may be stored.
    allow_huge(monkeypatch)
    async with raw_wallet(server.url, SECRET) as wallet:
        _, connection = await wallet.open_session(peer)
        ids = {await open_up_to_signed(wallet, connection, is_huge=True) for _ in range(MANY)}
        ordinary = await open_up_to_signed(wallet, connection, is_huge=False)
        # Who knows no pages gets what fits; what is of ordinary size first.
        plain = await wallet.call("channels")
        assert len(json.dumps(plain)) <= LIST_BYTES * 1.01
        assert len(plain) > 10
        assert ordinary in {each["channel_id"] for each in plain}
        # And who knows them gets all, over the same socket.
        for wanted in ({"limit": 1000}, {"limit": 3}, {"after": ""}):
            listed = await pages(wallet, "channels", "channel_id", **wanted)
            assert {each["channel_id"] for each in listed} == {*ids, ordinary}
    await connection.close()
    async with Wallet(server.url, KEYS) as wallet_again:
        assert {each.channel_id for each in await wallet_again.channels()} == {*ids, ordinary}


async def test_sessions_filled_up_by_strangers(
    server: Server, peer: ScriptedPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow_huge(monkeypatch)
    peer_init = huge(decode(PEER_INIT))
    async with raw_wallet(server.url, SECRET) as wallet:
        ids = set()
        for _ in range(MANY):
            session_id, connection = await wallet.open_session(peer, peer_init)
            await connection.receive()
            ids.add(session_id)
        ordinary, _ = await wallet.open_session(peer)
        listed = await pages(wallet, "sessions", "session_id", limit=9)
        assert {each["session_id"] for each in listed} == {*ids, ordinary}
        assert ordinary in {each["session_id"] for each in await wallet.call("sessions")}
    async with raw_wallet(server.url, SECRET, authenticated=False) as wallet:
        came = await wallet.authenticate()
        assert came["more_sessions"] is True
        assert 10 < len(came["sessions"]) < MANY
        assert ordinary in {each["session_id"] for each in came["sessions"]}
    async with Wallet(server.url, KEYS) as again:
        for session_id in (*ids, ordinary):
            assert again.session(session_id).peer_init is not None
        assert {each.session_id for each in await again.sessions()} == {*ids, ordinary}
