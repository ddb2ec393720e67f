"""The relay's questions under way: each is asked of the signer once at a time, and answered."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from lightning_proxy.bolt.features import DEFAULT_FEATURES
from lightning_proxy.rpc import (
    Delegate,
    ErrorCode,
    RpcError,
    SlotUsed,
    Voided,
    encode_error,
    encode_result,
)
from lightning_proxy.wallet.errors import ConnectionLost, RelayError, WalletError
from lightning_proxy.wallet.events import (
    Answered,
    ChannelProblem,
    DelegationReceived,
    Event,
    Refused,
)
from lightning_proxy.wallet.request import LeftOpen, Refusal, Request, read_request
from lightning_proxy.wallet.session import Session
from lightning_proxy.wallet.signer import Signer, ask

_log = structlog.get_logger()

#: Questions that may be under way at once; a relay that asks more is told to wait.
_MAX_UNDER_WAY: Final = 256


class Delegations:
    """`reply` sends a frame and raises `ConnectionLost`; `emit` takes events.

    An answer that can't be sent is not lost: the relay asks again, and the signer says the same.
    Without a signer questions stay open, for another device of the wallet's.
    """

    def __init__(
        self,
        signer: Signer | None,
        reply: Callable[[str], Awaitable[None]],
        emit: Callable[[Event], None],
    ) -> None:
        self._signer = signer
        self._reply = reply
        self._emit = emit
        self._under_way: dict[str, tuple[Request, asyncio.Task[None]]] = {}

    async def take(self, delegate: Delegate, session: Session | None) -> None:
        """A question came; `session` is the one that it names, where this wallet knows it."""
        try:
            features = DEFAULT_FEATURES if session is None else session.features
            request = read_request(delegate, features)
            if session is not None and request.peer != session.peer.node_id:
                raise Refusal("the delegation names another peer than its session")
            known = self._under_way.get(request.delegation_id)
            if known is not None:
                if not request.repeats(known[0]):
                    raise Refusal("this delegation's id is under way for another question")
                return
        except Refusal as refusal:
            await self._refuse(delegate.id, refusal)
            return
        if len(self._under_way) >= _MAX_UNDER_WAY:
            error = RpcError(ErrorCode.LIMIT, "Too many delegations are under way; ask again.")
            await self._reply(encode_error(delegate.id, error))
            return
        self._emit(DelegationReceived(request))
        if self._signer is not None:
            task = asyncio.create_task(self._answer(self._signer, request))
            self._under_way[request.delegation_id] = request, task
            task.add_done_callback(lambda _: self._under_way.pop(request.delegation_id, None))

    async def slot_used(self, used: SlotUsed, session: Session | None) -> bool:
        """A key slot was used; whether that is dealt with, for good or bad.

        Without a signer it is shown, and still to be dealt with by who has one.
        """
        if self._signer is None:
            self._emit(used)
            return False
        features = DEFAULT_FEATURES if session is None else session.features
        try:
            problem = await self._signer.slot_used(used, features)
        except WalletError as error:
            _log.error("slot_used_not_recorded", error=str(error))
            return False
        self._emit(used)
        if problem is not None:
            peer, channel_id = bytes.fromhex(used.peer), bytes.fromhex(used.channel_id)
            self._emit(ChannelProblem(channel_id, peer, problem))
        return True

    def void(self, voided: Voided) -> None:
        """The question is gone: stop working on it."""
        known = self._under_way.get(voided.id)
        if known is not None:
            known[1].cancel()
        self._emit(voided)

    async def close(self) -> None:
        """Stop all work; what was not answered stays open at the relay."""
        tasks = [task for _, task in self._under_way.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(self, signer: Signer, request: Request) -> None:
        try:
            answer = await ask(signer, request)
            await self._reply(encode_result(request.delegation_id, answer))
            self._emit(Answered(request, answer))
        except Refusal as refusal:
            await self._refuse(request.delegation_id, refusal)
        except LeftOpen:
            _log.info("question_left_open", delegation_id=request.delegation_id)
        except ConnectionLost:
            _log.info("answer_not_sent", delegation_id=request.delegation_id)
        except RelayError as error:
            _log.error("answer_too_large", delegation_id=request.delegation_id, code=error.code)
        except Exception as error:  # noqa: BLE001 - a signer's bug must not end the connection
            # No traceback and no text: either could hold a secret of the signer's.
            _log.error(
                "signer_failed",
                delegation_id=request.delegation_id,
                error=type(error).__name__,
            )

    async def _refuse(self, delegation_id: str, refusal: Refusal) -> None:
        try:
            await self._reply(
                encode_error(delegation_id, RpcError(ErrorCode.REFUSED, refusal.reason))
            )
        except ConnectionLost:
            _log.info("answer_not_sent", delegation_id=delegation_id)
        else:
            self._emit(Refused(delegation_id, refusal.reason))
