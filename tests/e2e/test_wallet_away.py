"""A channel whose wallet is away: the relay says nothing for it, and when in doubt it hangs up."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from coincurve import PrivateKey

from lightning_proxy.api import Server
from lightning_proxy.bolt.channel.reestablish import reestablish_of
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.messages import (
    Error,
    Message,
    Shutdown,
    Stfu,
    UpdateFailHtlc,
    UpdateFailMalformedHtlc,
    UpdateFee,
    decode,
)
from lightning_proxy.bolt.messages import Warning as PeerWarning
from lightning_proxy.relay.delegation import DelegationState
from lightning_proxy.relay.wake.settings import WakeSettings
from lightning_proxy.rpc import MAX_UNHEARD, DelegationKind
from lightning_proxy.rpc.frames import MOVES_BYTES
from tests.support.moves import PING, PONG, Moves
from tests.support.peer import ScriptedPeer
from tests.support.receivers import Receiver
from tests.support.relay import RawWallet, raw_wallet, relay

SECRET = b"\x79" * 32
NODE_ID = PrivateKey(SECRET).public_key.format()
PREIMAGE = b"\x01" * 32
HASH = sha256(PREIMAGE).digest()
QUICK = WakeSettings(cooldown=0.05, retry_first=0.1, timeout=0.5)
#: Bytes; with it an `update_add_htlc` still fits a frame of BOLT #8.
LONGEST_TLV = 63_000


class Away:
    """A wallet's channel at a relay, and how the wallet leaves it."""

    def __init__(self, moves: Moves, server: Server, stack: AsyncExitStack) -> None:
        self.moves = moves
        self.server = server
        self.wallet: RawWallet
        self._stack = stack

    async def come(self) -> RawWallet:
        self.wallet = await self._stack.enter_async_context(raw_wallet(self.server.url, SECRET))
        return self.wallet

    async def leave(self) -> None:
        await self.wallet.acknowledge()
        await self.wallet.socket.close()
        await self.wallet.ended.wait()
        await self.until(lambda: not any(each.sockets for each in self.server.relay.inboxes()))

    async def until(self, holds: Callable[[], Any]) -> None:
        async with asyncio.timeout(10):
            while not holds():
                await asyncio.sleep(0.01)

    async def heard(self) -> list[Message]:
        """What the peer gets before the relay has dealt with a ping of its own, or to the end."""
        words = []
        try:
            await self.moves.connection.send(PING)
            while (raw := await self.moves.connection.receive())[:2] != PONG:
                words.append(decode(raw))
        except (EOFError, ConnectionError):
            pass
        return words

    async def is_left(self) -> None:
        """The session is over, of which the peer heard no word."""
        with pytest.raises(EOFError):
            await self.moves.connection.receive()
        await self.until(lambda: not list(self.server.relay.sessions()))

    @property
    def asked(self) -> int:
        return sum(1 for each in self.server.relay.inboxes() for _ in each.delegations)

    @property
    def outcomes(self) -> dict[DelegationState, int]:
        return self.server.relay.counters.outcomes

    async def channel(self) -> dict[str, Any]:
        (info,) = await (await self.come()).call("channels")
        described: dict[str, Any] = info
        return described


@pytest.fixture
def settings() -> dict[str, Any]:
    return {"wake": QUICK}


@pytest.fixture
async def away(tmp_path: Path, peer: ScriptedPeer, settings: dict[str, Any]) -> AsyncIterator[Away]:
    """Still there, with a channel that is re-established."""
    moves = Moves(Role.ACCEPTER)
    path = tmp_path / "relay.sqlite"
    await moves.store(path, NODE_ID, peer.node_id)
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(relay(store=str(path), **settings))
        made = Away(moves, server, stack)
        await moves.connect(await made.come(), peer)
        yield made


# ---- what the relay does alone ----


def removal(kind: str, moves: Moves) -> Message:
    """Of the HTLC that the wallet has offered."""
    channel_id = moves.channel_id
    if kind == "fulfil":
        return moves.fulfil(moves.peer, 0, PREIMAGE)
    if kind == "fail":
        return UpdateFailHtlc(channel_id=channel_id, id=0, reason=bytes(292))
    return UpdateFailMalformedHtlc(
        channel_id=channel_id, id=0, sha256_of_onion=bytes(32), failure_code=0xC005
    )


async def say(kind: str, moves: Moves) -> None:
    peer = moves.peer
    other: dict[str, Message] = {
        "shutdown": Shutdown(channel_id=moves.channel_id, scriptpubkey=b"\x00\x14" + bytes(20)),
        "stfu": Stfu(channel_id=moves.channel_id, initiator=1),
        "reestablish": reestablish_of(peer.snapshot, peer.role),
        "error": Error(channel_id=moves.channel_id, data=b"no"),
        "error for all": Error(channel_id=bytes(32), data=b"no"),
        "warning": PeerWarning(channel_id=moves.channel_id, data=b"hm"),
        "wrong signature": peer.commitment_signed(),
        "wrong revocation": peer.revoke_and_ack(),
    }
    match kind:
        case "adds":
            await moves.send(peer.add(1_000_000, HASH), peer.add(2_000_000, HASH, id=1))
        case "adds, signed":
            await moves.send(peer.add(1_000_000, HASH), peer.add(2_000_000, HASH, id=1))
            await moves.send(peer.commitment_signed())
        case "revocation":
            await moves.send(peer.revoke_and_ack())
        case "revocation, signed":
            await moves.send(peer.revoke_and_ack())
            await moves.send(peer.commitment_signed())
        case "fee":
            await moves.send(UpdateFee(channel_id=moves.channel_id, feerate_per_kw=1_000))
            await moves.send(peer.commitment_signed())
        case "fulfil" | "fail" | "fail malformed":
            await moves.send(removal(kind, moves))
            await moves.send(peer.commitment_signed())
        case _:
            await moves.connection.send(other[kind].encode())


#: What a peer says, and what it hears: nothing, or a warning, which fails no channel (BOLT #1).
SAID = {
    "adds": [],
    "adds, signed": [],
    "revocation": [],
    "revocation, signed": [],
    "fee": [],
    "fulfil": [],
    "fail": [],
    "fail malformed": [],
    "shutdown": ["warning"],
    "stfu": ["warning"],
    "reestablish": ["warning"],
    "error": [],
    "error for all": [],
    "warning": [],
    "wrong signature": ["warning"],
    "wrong revocation": ["warning"],
}


@pytest.mark.parametrize(
    "settings", [{"wake": QUICK, "deadlines": {DelegationKind.COMMITMENT: 0.3}}]
)
@pytest.mark.parametrize("how", ["woken", "asleep", "no target"])
@pytest.mark.parametrize("kind", SAID)
async def test_the_relay_says_nothing_for_a_wallet_that_is_away(
    away: Away, receiver: Receiver, kind: str, how: str
) -> None:
    moves, wallet = away.moves, away.wallet
    if how == "woken":
        await wallet.call("wake_by_webhook", url=f"{receiver.url}/wake")
    # An HTLC of the wallet's; and for a revocation, a signature that is not acknowledged.
    await moves.update(wallet, moves.wallet.mover.add(40_000_000, HASH))
    await moves.hear("update_add_htlc", "commitment_signed")
    if "revocation" not in kind or "wrong" in kind:
        await moves.settle(wallet)
    if how == "asleep":
        wallet.stop_reading()
    else:
        await away.leave()
    await say(kind, moves)
    heard = await away.heard()
    if away.asked:
        # Nor when the question's time is over.
        await away.until(lambda: away.outcomes[DelegationState.EXPIRED])
    heard += await away.heard()
    assert [each.NAME for each in heard] == SAID[kind]
    if how == "asleep":
        wallet.start_reading()
    channel = await away.channel()
    assert channel["state"] == ("failed" if kind == "error" else "ready")


# ---- a wallet that can't be had ----


@pytest.mark.parametrize("how", ["no target", "fails", "gone"])
async def test_who_can_not_be_woken_gets_no_second_payment(
    away: Away, receiver: Receiver, how: str
) -> None:
    """At once, and not once the question's time is over; the peer fails the payment by itself."""
    moves, wallet = away.moves, away.wallet
    counters = away.server.relay.waker.counters
    if how != "no target":
        receiver.answers(410 if how == "gone" else 500)
        await wallet.call("wake_by_webhook", url=f"{receiver.url}/wake")
    await away.leave()
    await moves.send(moves.peer.add(1_000_000, HASH))
    await moves.send(moves.peer.commitment_signed())
    # The first one may be what a wallet comes for.
    await moves.quiet()
    if how != "no target":
        await away.until(lambda: counters.wakes_failed)
    if how == "gone":
        await away.until(lambda: counters.wake_targets_gone)
    await moves.send(moves.peer.add(1_000_000, HASH))
    await away.is_left()
    assert away.outcomes[DelegationState.EXPIRED] == 0
    # Without the wallet's key nobody connects to that peer again, and nobody has tried to.
    assert away.server.relay.counters.dials == 1


async def test_who_is_being_woken_gets_further_payments(away: Away, receiver: Receiver) -> None:
    moves, wallet = away.moves, away.wallet
    await wallet.call("wake_by_webhook", url=f"{receiver.url}/wake")
    await away.leave()
    for _ in range(2):
        await moves.send(moves.peer.add(1_000_000, HASH))
        if not moves.peer.snapshot.theirs.unrevoked:
            await moves.send(moves.peer.commitment_signed())
        await moves.quiet()
        await away.until(lambda: away.server.relay.waker.counters.wakes_delivered)
    await moves.quiet()


async def test_a_wallet_that_came_back_can_be_had(
    away: Away, receiver: Receiver, peer: ScriptedPeer
) -> None:
    """What failed before it came says nothing of the next time."""
    moves, wallet = away.moves, away.wallet
    receiver.answers(500)
    await wallet.call("wake_by_webhook", url=f"{receiver.url}/wake")
    await away.leave()
    await moves.send(moves.peer.add(1_000_000, HASH))
    await moves.send(moves.peer.commitment_signed())
    await away.until(lambda: away.server.relay.waker.counters.wakes_failed)
    await moves.settle(await away.come())
    receiver.answer = None
    await away.leave()
    await moves.send(moves.peer.add(1_000_000, HASH))
    await moves.send(moves.peer.commitment_signed())
    await away.until(lambda: away.server.relay.waker.counters.wakes_delivered)
    await moves.send(moves.peer.add(1_000_000, HASH))
    await moves.quiet()


# ---- bounds ----


@pytest.mark.parametrize("leaves", [False, True])
async def test_more_than_a_wallet_is_given_at_once_ends_the_session_and_no_channel(
    away: Away, *, leaves: bool
) -> None:
    """Not one of them goes where the oldest would be dropped."""
    moves = away.moves
    if leaves:
        await away.leave()
    fee = UpdateFee(channel_id=moves.channel_id, feerate_per_kw=500).encode()
    # The peer's channel_reestablish waits there, too.
    await moves.connection.send(*[fee] * (MAX_UNHEARD - 1))
    assert await away.heard() == []
    await moves.connection.send(fee)
    (warning,) = await away.heard()
    assert isinstance(warning, PeerWarning)
    assert b"too much waits" in warning.data
    await away.until(lambda: not list(away.server.relay.sessions()))
    assert (await away.channel())["state"] == "ready"


async def test_longer_messages_than_a_wallet_is_given_at_once_end_the_session(away: Away) -> None:
    """And no channel: BOLT #1 lets a message be as long as a frame."""
    moves = away.moves
    await away.leave()
    count = MOVES_BYTES // LONGEST_TLV
    assert count < MAX_UNHEARD
    for number in range(count + 1):
        raw = moves.peer.add(1_000_000, HASH, id=number).encode()
        # Of a type that nobody knows, and that may be ignored.
        tlv = b"\xfd\xff\xff\xfd" + LONGEST_TLV.to_bytes(2, "big") + bytes(LONGEST_TLV)
        await moves.connection.send(raw + tlv)
    (warning,) = await away.heard()
    assert isinstance(warning, PeerWarning)
    assert b"too much waits" in warning.data
    await away.until(lambda: not list(away.server.relay.sessions()))
    assert (await away.channel())["state"] == "ready"


async def test_too_much_before_the_wallets_record_is_there_ends_the_session_and_no_channel(
    away: Away, peer: ScriptedPeer
) -> None:
    """The wallet is asked where the channel stands, and sleeps."""
    moves = away.moves
    await moves.connection.close()
    await away.wallet.event_of("closed")
    await moves.begin(away.wallet, peer)
    await away.leave()
    long = UpdateFailHtlc(channel_id=moves.channel_id, id=0, reason=bytes(60_000)).encode()
    for _ in range(17):
        await moves.connection.send(long)
    assert await away.heard() == []
    await moves.connection.send(long)
    (warning,) = await away.heard()
    assert isinstance(warning, PeerWarning)
    assert b"too many messages" in warning.data
    wallet = await away.come()
    # None of them where the oldest would have been dropped.
    told = []
    while not wallet.events.empty():
        told.append(await wallet.event_body())
    assert [each["method"] for each in told if each["method"] == "message"] == []
    (info,) = await wallet.call("channels")
    assert info["state"] == "ready"
