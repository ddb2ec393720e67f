"""A scripted relay that plays along with a wallet, through an opening and what follows."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import msgspec

from lightning_proxy import rpc
from lightning_proxy.rpc import Delegate
from lightning_proxy.transport.handshake import Responder
from tests.unit.wallet.openings import SigningWallet
from tests.unit.wallet.samples import PEER_INIT, PEER_SECRET, SESSION_ID
from tests.unit.wallet.scripted_relay import RelaySocket


class Play:
    """A relay that answers what the wallet asks, and asks it what the test says."""

    def __init__(self, socket: RelaySocket, listed: list[dict[str, Any]]) -> None:
        self.socket = socket
        socket.has_nothing = False
        self.listed = listed
        #: What `sessions` is answered.
        self.sessions: list[dict[str, Any]] = []
        self.refuse_to_connect = False
        #: Said before `sessions` is answered.
        self.on_sessions: dict[str, Any] | None = None
        self.asked: list[str] = []
        self.offered: asyncio.Queue[bytes] = asyncio.Queue()
        self._answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._responder = Responder(PEER_SECRET)

    async def run(self) -> None:
        with contextlib.suppress(AssertionError):  # the wallet hung up
            while True:
                frame = await self.socket.hear()
                if "method" not in frame:
                    self._answers.put_nowait(frame)
                    continue
                self.asked.append(frame["method"])
                if frame["method"] == "sessions" and self.on_sessions is not None:
                    await self.socket.say(**self.on_sessions)
                await self.socket.say(id=frame["id"], **self._reply(**frame))

    def _reply(self, method: str, params: dict[str, Any], **_: Any) -> dict[str, Any]:
        result: Any = {}
        match method:
            case "channels":
                result = self.listed
            case "sessions":
                result = self.sessions
            case "slots":
                result = []
            case "open_channel":
                assert params["session_id"] == SESSION_ID
                self.offered.put_nowait(bytes.fromhex(params["message"]))
            case "connect" if self.refuse_to_connect:
                self.refuse_to_connect = False
                data = {"code": "peer_unreachable"}
                return {"error": {"code": -32006, "message": "Nobody is there.", "data": data}}
            case "connect":
                act_two = self._responder.act_one(bytes.fromhex(params["act_one"]))
                result = {"session_id": "77" * 16, "act_two": act_two.hex()}
            case "handshake":
                result = {"init": PEER_INIT.encode().hex()}
        return {"result": result}

    async def ask(self, delegate: Delegate) -> Any:
        await self.socket.say(
            id=delegate.id, method="delegate", params=msgspec.to_builtins(delegate)
        )
        answer = await asyncio.wait_for(self._answers.get(), 10)
        assert answer["id"] == delegate.id
        return msgspec.convert(answer["result"], rpc.ANSWERS[delegate.kind])

    async def tell(self, raw: bytes) -> None:
        params = {"session_id": SESSION_ID, "sequence": 1, "message": raw.hex()}
        await self.socket.say(method="message", params=params)

    async def close(self) -> None:
        self.sessions = []
        closed = {"session_id": SESSION_ID, "reason": "the peer hung up"}
        await self.socket.say(method="closed", params=closed)


class ByRelay(SigningWallet):
    """Not asked directly, but over the relay's socket."""

    def __init__(self, play: Play, path: Path) -> None:
        self._play = play
        super().__init__(path)

    async def ask(self, *args: Any, **options: Any) -> Any:
        return await self._play.ask(self.delegate(*args, **options))
