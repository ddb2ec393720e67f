"""Whatever message a peer sends: the session goes on or ends, and nothing else happens."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_proxy.bolt.messages import MESSAGES
from tests.support.channels import open_channel
from tests.support.peer import ScriptedPeer
from tests.support.relay import raw_wallet, relay

types = st.sampled_from(sorted(MESSAGES)) | st.integers(0, 0xFFFF)
messages = st.builds(
    lambda type_, body: type_.to_bytes(2, "big") + body, types, st.binary(max_size=300)
)


def _mutated(at: int, byte: int, cut: int) -> bytes:
    message = open_channel().encode()
    return message[:at] + bytes([byte]) + message[at + 1 : cut]


mutated = st.builds(_mutated, st.integers(0, 327), st.integers(0, 255), st.integers(2, 328))


async def test_any_messages() -> None:
    reported: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    loop = asyncio.get_running_loop()
    async with (
        relay(max_sessions_per_wallet=1000) as server,
        raw_wallet(server.url) as wallet,
        ScriptedPeer(b"\x29" * 32).serve() as peer,
    ):

        async def one(batch: list[bytes]) -> None:
            _, connection = await wallet.open_session(peer)
            await connection.send(*batch)
            connection.writer.write_eof()
            await connection.closed()

        batches: list[list[bytes]] = []

        @settings(max_examples=60)
        @given(st.lists(messages | mutated, max_size=6))
        def collect(batch: list[bytes]) -> None:
            batches.append(batch)

        collect()
        for batch in batches:
            await one(batch)
        while list(server.relay.sessions()):
            await asyncio.sleep(0.01)
        assert reported == []
        # And the relay still does its job.
        _, connection = await wallet.open_session(peer)
        while not wallet.events.empty():
            wallet.events.get_nowait()
        await connection.send(open_channel().encode())
        await wallet.event("delegate")
    assert loop.is_running()
