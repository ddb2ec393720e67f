"""Peers that say the same in every session, so that the load generator leaves the relay the work.

Every key is fixed, the ephemeral ones too: the three acts, the transport keys and the first frames
are the same bytes each time, made once and then only written and compared. The relay neither knows
nor gains; a session costs it what any other does. Real nodes choose fresh ephemeral keys.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, cast

from coincurve import PrivateKey

from lightning_proxy.bolt.chains import CHAIN_HASHES
from lightning_proxy.bolt.features import DEFAULT_FEATURES
from lightning_proxy.bolt.messages import GossipTimestampFilter, Init, Ping, Pong
from lightning_proxy.transport import CipherState
from lightning_proxy.transport.handshake import (
    ACT_ONE_SIZE,
    ACT_THREE_SIZE,
    Initiator,
    Responder,
)

_PEER_SECRET: Final = b"\x42" * 32
PEER_NODE_ID: Final = PrivateKey(_PEER_SECRET).public_key.format()
#: Loopback addresses that the peers listen on: one has too few ports for many sessions.
_HOSTS: Final = ("127.0.0.2", "127.0.0.3", "127.0.0.4")

#: Seconds.
_PATIENCE: Final = 20.0

_initiator = Initiator(b"\x21" * 32, PEER_NODE_ID, b"\x12" * 32)
_responder = Responder(_PEER_SECRET, b"\x24" * 32)
ACT_ONE: Final = _initiator.act_one()
ACT_TWO: Final = _responder.act_one(ACT_ONE)
ACT_THREE: Final = _initiator.act_two(ACT_TWO)
#: As the peer sees them.
KEYS: Final = _responder.act_three(ACT_THREE)

INIT: Final = Init(globalfeatures=b"", features=DEFAULT_FEATURES.to_bytes()).encode()
_FILTER: Final = GossipTimestampFilter(
    chain_hash=CHAIN_HASHES["bitcoin"], first_timestamp=0xFFFF_FFFF, timestamp_range=0
).encode()
_PING: Final = Ping(num_pong_bytes=32, ignored=b"").encode()
_PONG: Final = Pong(ignored=bytes(32)).encode()


def _frames(key: bytes, *messages: bytes) -> tuple[bytes, ...]:
    """The frames of a direction's first messages."""
    state = CipherState(key, KEYS.chaining_key)
    return tuple(state.seal(message) for message in messages)


_SAYS_INIT, _SAYS_PING = _frames(KEYS.sending_key, INIT, _PING)
_HEARS_INIT, _HEARS_FILTER, _HEARS_PONG = _frames(KEYS.receiving_key, INIT, _FILTER, _PONG)
#: How many messages the peer says and hears up to then.
MESSAGES_SAID: Final = 1
MESSAGES_HEARD: Final = 2
#: All that the relay says to a peer that stays silent after its `init`.
_SCRIPT: Final = ACT_ONE + ACT_THREE + _HEARS_INIT + _HEARS_FILTER
_ACT_ONE_HEARD: Final = ACT_ONE_SIZE
_INIT_HEARD: Final = ACT_ONE_SIZE + ACT_THREE_SIZE + len(_HEARS_INIT)


class Peer(asyncio.Protocol):
    """A responder on one connection: `ready` is set once every byte of its set-up was right.

    What the relay says that isn't in the script ends the connection and is kept in `failures`.
    """

    failures: Final[list[str]] = []

    def __init__(self, on_ready: Callable[["Peer"], None]) -> None:
        self.ready = False
        self._on_ready = on_ready
        self._heard = b""
        self._script = _SCRIPT

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        before, self._heard = len(self._heard), self._heard + data
        after = len(self._heard)
        if not self._script.startswith(self._heard):
            self.failures.append(f"a peer heard what it should not, within bytes {before}-{after}")
            self.transport.abort()
            return
        if before < _ACT_ONE_HEARD <= after:
            self.transport.write(ACT_TWO)
        if before < _INIT_HEARD <= after:
            self.transport.write(_SAYS_INIT)
        if after == len(self._script):
            self.ready = True
            self._on_ready(self)

    def ping(self) -> None:
        """Ask the relay for a pong, once in a session; `ready` is set when it came."""
        self.ready = False
        self._script += _HEARS_PONG
        self.transport.write(_SAYS_PING)


@asynccontextmanager
async def listening(make: Callable[[], asyncio.Protocol]) -> AsyncIterator[Sequence[str]]:
    """Peers on several addresses; yields them as the API wants them ("pubkey@host:port")."""
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        addresses: list[str] = []
        for host in _HOSTS:
            server = await loop.create_server(make, host, 0, backlog=4096)
            stack.callback(server.close)
            port = server.sockets[0].getsockname()[1]
            addresses.append(f"{PEER_NODE_ID.hex()}@{host}:{port}")
        yield addresses


async def until(true: Callable[[], bool]) -> None:
    """Wait for something; raises `RuntimeError` when a peer heard what it should not."""
    async with asyncio.timeout(_PATIENCE):
        while not (true() or Peer.failures):  # noqa: ASYNC110 - far from what is measured
            await asyncio.sleep(0.005)
    if Peer.failures:
        raise RuntimeError(Peer.failures[0])
