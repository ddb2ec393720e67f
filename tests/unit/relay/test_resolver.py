"""Names become addresses, or an error; whoever waits for one that never answers waits alone."""

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import name_server


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "2001:db8::1", "0.0.0.0"])
async def test_an_address_is_its_own(address: str) -> None:
    def nobody(_: str) -> None:
        raise AssertionError("an address was asked for")

    async with name_server.resolver(nobody) as resolver:
        assert await resolver.resolve(address, 9735) == [address]


async def test_a_name_has_its_addresses_in_order_and_each_once() -> None:
    table = {"two.example": ["192.0.2.1", "192.0.2.2", "192.0.2.1"], "none.example": []}
    async with name_server.resolver(lambda name: table[name]) as resolver:
        assert sorted(await resolver.resolve("two.example", 80)) == ["192.0.2.1", "192.0.2.2"]
        assert "127.0.0.1" in await resolver.resolve("localhost", 80)
        with pytest.raises(OSError, match=r"none\.example could not be resolved"):
            await resolver.resolve("none.example", 80)


async def test_silence_ends_and_who_gave_up_leaves_nothing() -> None:
    started = time.monotonic()
    async with name_server.resolver(lambda name: None) as resolver:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await resolver.resolve("silent.example", 80)
        waiting = asyncio.create_task(resolver.resolve("silent.example", 80))
        await asyncio.sleep(0)
    # Closing does not wait for the server.
    with pytest.raises(OSError, match="could not be resolved"):
        await waiting
    assert time.monotonic() - started < 2


@given(st.text(max_size=300) | st.text("a.-_%:[]\0", max_size=80))
async def test_any_text_is_addresses_or_an_error(host: str) -> None:
    async with name_server.resolver(lambda _: []) as resolver:
        try:
            assert await resolver.resolve(host, 80)
        except OSError as error:
            assert "could not be resolved" in str(error)
