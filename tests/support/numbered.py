"""Numbered messages of a type that nobody knows: how a test sees loss, repetition and disorder."""

import asyncio
from typing import Final

from tests.support.peer import PeerConnection, ScriptedPeer
from tests.support.relay import RawWallet, RpcFailure

_TYPE: Final = b"\x80\x01"
_PING: Final = b"\x00\x12\x00\x00\x00\x00"
_PONG: Final = b"\x00\x13"
#: Seconds.
_WAIT: Final = 30.0


def numbered(number: int, size: int = 0) -> bytes:
    """The message of this number, with so many bytes behind it."""
    return _TYPE + number.to_bytes(2, "big") + bytes(size)


async def raw_session(wallet: RawWallet, peer: ScriptedPeer) -> tuple[str, PeerConnection]:
    """A session whose messages the wallet gets."""
    session_id, connection = await wallet.open_session(peer)
    await wallet.call("subscribe", session_id=session_id, raw=True)
    return session_id, connection


async def messages(wallet: RawWallet, count: int) -> list[int]:
    """The numbers of the next so many."""
    return [number_of(await wallet.event("message")) for _ in range(count)]


def number_of(params: dict[str, str]) -> int:
    """Of the message that a notification is about."""
    return int(params["message"][4:8], 16)


async def said(connection: PeerConnection, *numbers: int) -> None:
    """Messages that the relay has got when this returns."""
    await connection.send(*map(numbered, numbers), _PING)
    while (await connection.receive())[:2] != _PONG:
        pass


async def until_stored(wallet: RawWallet) -> None:
    """Until the relay has on disk all that it knows by now."""
    async with asyncio.timeout(_WAIT):
        while True:
            try:
                await wallet.call("acknowledge", position=0)
            except RpcFailure as failure:
                assert failure.code == "unavailable"
                await asyncio.sleep(0.05)
            else:
                return
