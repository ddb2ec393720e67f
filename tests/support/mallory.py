"""Mallory, a relay that lies: what wallets dial is hers, and an honest relay works behind her back.

Every frame passes her hands both ways. She changes it, keeps it, repeats it, or asks questions of
her own, with whatever a peer that is in league with her has signed.
"""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestServer

from lightning_proxy.api import ApiSettings, Server
from lightning_proxy.rpc import PATH, SUBPROTOCOL
from tests.support.relay import relay

_WAIT = 10.0
Frame = dict[str, Any]


class Mallory:
    """`to_wallet` and `to_relay` make of each frame those that go on; as it came, at first."""

    url: str
    #: The relay behind her back.
    honest: Server

    def __init__(self) -> None:
        self.to_wallet: Callable[[Frame], list[Frame]] = lambda frame: [frame]
        self.to_relay: Callable[[Frame], list[Frame]] = lambda frame: [frame]
        #: What went to the wallet as a question, and what it said to it, by id.
        self.asked: dict[str, Frame] = {}
        self.said: dict[str, Frame] = {}
        self._relay_url = ""
        self._wallet: web.WebSocketResponse
        self._hers: dict[str, asyncio.Future[Frame]] = {}

    async def ask(self, kind: str, **envelope: Any) -> Frame:
        """A question of her own; the wallet's frame that answers it.

        What `envelope` leaves out is taken from the last honest question.
        """
        last: Frame = next(reversed(self.asked.values()), {"params": {}})["params"]
        now = time.time()
        params = {
            **last,
            "sequence": 99,
            "created": now,
            "deadline": now + 60,
            "messages": [],
            "id": secrets.token_hex(16),
            "kind": kind,
            **envelope,
        }
        return await self.repeat(
            {"jsonrpc": "2.0", "id": params["id"], "method": "delegate", "params": params}
        )

    async def repeat(self, question: Frame) -> Frame:
        """Ask exactly this; the wallet's frame that answers it."""
        answer = asyncio.get_running_loop().create_future()
        self._hers[question["id"]] = answer
        await self._wallet.send_str(json.dumps(question))
        return await asyncio.wait_for(answer, _WAIT)

    async def tell(self, method: str, **params: Any) -> None:
        """A notification of her own."""
        frame = {"jsonrpc": "2.0", "method": method, "params": params}
        await self._wallet.send_str(json.dumps(frame))

    @property
    def signatures(self) -> set[str]:
        """Every signature of a commitment that has left the wallet."""
        results = (frame.get("result") for frame in self.said.values())
        return {r["signature"] for r in results if isinstance(r, dict) and "signature" in r}

    # ---- between the two ----

    async def _serve(self, request: web.Request) -> web.WebSocketResponse:
        self._wallet = wallet = web.WebSocketResponse(protocols=(SUBPROTOCOL,))
        await wallet.prepare(request)
        async with (
            aiohttp.ClientSession() as http,
            http.ws_connect(
                f"{self._relay_url}{PATH}",
                protocols=(SUBPROTOCOL,),
                headers={"Host": request.host},
            ) as honest,
        ):
            down = asyncio.create_task(self._pass_down(honest, wallet))
            try:
                async for message in wallet:
                    if message.type is WSMsgType.TEXT:
                        await self._pass_up(json.loads(message.data), honest)
            finally:
                down.cancel()
                await asyncio.gather(down, return_exceptions=True)
        return wallet

    async def _pass_down(
        self, honest: aiohttp.ClientWebSocketResponse, wallet: web.WebSocketResponse
    ) -> None:
        async for message in honest:
            if message.type is WSMsgType.TEXT:
                for frame in self.to_wallet(json.loads(message.data)):
                    if frame.get("method") == "delegate":
                        self.asked[frame["id"]] = frame
                    await wallet.send_str(json.dumps(frame))

    async def _pass_up(self, frame: Frame, honest: aiohttp.ClientWebSocketResponse) -> None:
        if "method" not in frame:
            self.said[frame["id"]] = frame
            hers = self._hers.pop(frame["id"], None)
            if hers is not None:
                hers.set_result(frame)
                return
        for each in self.to_relay(frame):
            await honest.send_str(json.dumps(each))


@asynccontextmanager
async def mallory(**settings: Any) -> AsyncIterator[Mallory]:
    """Mallory, before an honest relay with these settings."""
    liar = Mallory()
    app = web.Application()
    app.router.add_get(PATH, liar._serve)
    async with TestServer(app, host="127.0.0.1") as server:
        liar.url = f"http://127.0.0.1:{server.port}"
        # Wallets sign for the origin that they dialled, and that is hers.
        async with relay(ApiSettings(port=0, origins=[liar.url]), **settings) as honest:
            liar._relay_url = honest.url
            liar.honest = honest
            yield liar
