"""A wallet that hangs up while the relay is at its database breaks nothing off there."""

from lightning_proxy.api import Server
from tests.support.relay import raw_wallet


async def test_what_is_under_way_is_finished(server: Server) -> None:
    for method in ("channels", "slots", "acknowledge", "wake_targets", "channels"):
        for _ in range(4):
            async with raw_wallet(server.url) as leaving:
                params = {"position": 1} if method == "acknowledge" else {}
                body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
                await leaving.send_json(body)
                assert leaving.socket._response.connection is not None
                transport = leaving.socket._response.connection.transport
                assert transport is not None
                transport.abort()
    async with raw_wallet(server.url) as wallet:
        assert await wallet.call("channels") == []
        assert await wallet.call("slots") == []
