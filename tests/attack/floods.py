"""What an attacker does, by the numbers of the issue that tells of it; none ends by itself."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Final
from urllib.parse import urlsplit

from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.messages import Warning as PeerWarning
from lightning_proxy.transport.handshake import Initiator
from tests.attack.means import Peer, at_once, elsewhere, rest_session, session, somebody, wallet
from tests.support.black_hole import black_hole
from tests.support.channels import channel_keys, open_channel
from tests.support.opening import Side
from tests.support.peer import PeerConnection
from tests.support.receivers import Receiver
from tests.support.relay import RawWallet

_PING: Final = b"\x00\x12\x00\x01\x00\x00"
#: BOLT #1: a type that is odd, and that nobody knows, with as much as a message holds.
_LARGE: Final = b"\x80\x01" + bytes(65_000)
_SMALL: Final = PeerWarning(channel_id=bytes(32), data=b"").encode()
#: TLV records that nobody knows, in so many bytes: an odd type, a length, zeros.
_TLV: Final = b"\xfd\xff\xff\xfd\x9c\x40" + bytes(40_000)


def _repeat(*messages: bytes) -> Callable[[PeerConnection], Awaitable[None]]:
    """A peer that says these for ever, as fast as it can."""

    async def play(connection: PeerConnection) -> None:
        reading = asyncio.create_task(_swallow(connection))
        try:
            while True:
                await connection.send(*messages)
        finally:
            reading.cancel()

    return play


async def _swallow(connection: PeerConnection) -> None:
    while await connection.reader.read(1 << 16):
        pass


async def channel_ready(url: str) -> None:
    """1. `channel_ready`, again and again, on a channel that both signed and nobody funded."""
    side, accepter = Side(Role.OPENER), Side(Role.ACCEPTER)

    async def play(connection: PeerConnection) -> None:
        await connection.send(side.say(side.open_channel()))
        raw = await connection.receive()
        while raw[:2] != b"\x00\x21":
            raw = await connection.receive()
        side.hear(raw)
        await connection.send(side.say(side.funding_created()))
        while raw[:2] != b"\x00\x23":
            raw = await connection.receive()
        await _repeat(*[side.channel_ready().encode()] * 100)(connection)

    peer = Peer(play)
    async with peer.serve(), wallet(url) as there:
        await session(there, peer)
        question = await there.event("delegate")
        accepter.hear(bytes.fromhex(question["messages"][0]))
        answer = accepter.channel_keys()
        raw = accepter.accept_channel().encode()
        accepter.channel.send(raw, accepter.accept_channel())
        await there.answer(question, answer)
        question = await there.event("delegate")
        accepter.hear(bytes.fromhex(question["messages"][-1]))
        await there.answer(question, {"signature": accepter.signature.hex()})
        await asyncio.Event().wait()


async def large(url: str) -> None:
    """2. Openings with 40 kB of what nobody knows, and logins that read nothing of what waits."""

    async def play(connection: PeerConnection) -> None:
        reading = asyncio.create_task(_swallow(connection))
        for _ in range(4):
            await connection.send(open_channel().encode() + _TLV)
        for _ in range(40):
            await connection.send(_LARGE)
        await reading

    async def once() -> None:
        headers, secret = elsewhere(), secrets.token_bytes(32)
        peer = Peer(play)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(peer.serve())
            there = await stack.enter_async_context(wallet(url, secret, headers=headers))
            session_id = await session(there, peer)
            await there.call("subscribe", session_id=session_id, raw=True)
            for _ in range(7):
                login: RawWallet = await stack.enter_async_context(
                    wallet(url, secret, headers=headers)
                )
                login.stop_reading()
                for number in range(8):
                    await login.send_json({"jsonrpc": "2.0", "id": number, "method": "channels"})
            await asyncio.sleep(2)

    await at_once(16, once)


async def inboxes(url: str) -> None:
    """5. Sessions that no wallet has, whose peers fill what is kept for all wallets."""

    async def play(connection: PeerConnection) -> None:
        await _repeat(_warning(60_000))(connection)

    peer = Peer(play)
    async with peer.serve():
        await at_once(32, lambda: rest_session(url, peer, elsewhere()))


def _warning(size: int) -> bytes:
    return PeerWarning(channel_id=bytes(32), data=bytes(size)).encode()


async def _sixteen(url: str, *messages: bytes) -> None:
    peer = Peer(_repeat(*messages))
    async with peer.serve():
        while not all(
            await asyncio.gather(*(rest_session(url, peer, elsewhere()) for _ in range(16)))
        ):
            await asyncio.sleep(0.1)
        await asyncio.Event().wait()


async def talkers(url: str) -> None:
    """6. Sixteen sessions that no wallet has, whose peers talk as fast as they can."""
    await _sixteen(url, *[_SMALL] * 500)


async def pings(url: str) -> None:
    """6. The same with pings."""
    await _sixteen(url, *[_PING] * 500)


async def dials(url: str) -> None:
    """7. Wallets, of a network each, that dial what never answers."""
    with black_hole() as port:

        async def once() -> None:
            async with wallet(url) as there:
                await asyncio.gather(*(_dial(there, port) for _ in range(60)))

        await at_once(12, once)


async def _dial(there: RawWallet, port: int) -> None:
    node_id = somebody()
    act_one = Initiator(there.secret, node_id).act_one().hex()
    await there.call("connect", peer=f"{node_id.hex()}@127.0.0.1:{port}", act_one=act_one)


async def webhooks(url: str) -> None:
    """8. Sixty wallets whose webhooks take for ever, and that test them without a pause."""
    receiver = Receiver()
    hanging = asyncio.Event()

    async def hang(_: object) -> object:
        await hanging.wait()
        raise AssertionError

    receiver.answer = hang  # type: ignore[assignment]
    async with receiver.serve():

        async def once() -> None:
            async with wallet(url) as there:
                for number in range(4):
                    await there.call("wake_by_webhook", url=f"{receiver.url}/{number}")
                while True:
                    for number in range(8):
                        await there.send_json(
                            {"jsonrpc": "2.0", "id": f"test {number}", "method": "test_wake"}
                        )
                    await asyncio.sleep(0.5)

        await at_once(60, once)


async def strangers(url: str) -> None:
    """13. Wallets that come once, leave what they may, and go; sessions that nobody adopts."""
    home = elsewhere()
    peer = Peer(_swallow)

    async def once() -> None:
        async with wallet(url, headers=home) as there:
            for number in range(4):
                await there.call("wake_by_webhook", url=f"http://127.0.0.1:9/{number}")
            slots = [
                {
                    "answer": {
                        name: value
                        for name, value in channel_keys().items()
                        if name != "channel_type"
                    },
                    "policy": {"min_funding_sat": 0, "max_funding_sat": 1_000_000},
                }
                for _ in range(20)
            ]
            await there.call("add_slots", slots=slots)

    async with peer.serve():
        await asyncio.gather(
            at_once(8, once), at_once(8, lambda: rest_session(url, peer, elsewhere()))
        )


async def malformed(url: str) -> None:
    """14. HTTP that is none."""
    target = urlsplit(url)

    async def once() -> None:
        reader, writer = await asyncio.open_connection(target.hostname, target.port)
        try:
            writer.write(b"GET /\x00 HTTP/9.9\r\nno header\r\n\r\n")
            await reader.read()
        finally:
            writer.close()

    await at_once(16, once)


Flood = Callable[[str], Awaitable[None]]

#: By name: the number of the issue's finding that each is, and what does it.
FLOODS: Final[dict[str, tuple[int, Flood]]] = {
    "channel-ready": (1, channel_ready),
    "large": (2, large),
    "inboxes": (5, inboxes),
    "talkers": (6, talkers),
    "pings": (6, pings),
    "dials": (7, dials),
    "webhooks": (8, webhooks),
    "strangers": (13, strangers),
    "malformed": (14, malformed),
}
