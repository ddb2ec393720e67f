"""Key slots: answers to `channel_keys` that a wallet left for the time when it sleeps."""

import secrets
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog

from lightning_proxy.audit import audit
from lightning_proxy.bolt.channel import Channel
from lightning_proxy.bolt.errors import BoltError
from lightning_proxy.bolt.messages import OpenChannel
from lightning_proxy.bolt.opening import ANNOUNCE_CHANNEL
from lightning_proxy.relay.questions import accept_channel
from lightning_proxy.relay.store import Database
from lightning_proxy.relay.store.slots import SlotStore
from lightning_proxy.rpc import ErrorCode, RpcError, Slot, SlotInfo, SlotPolicy, SlotUsed

if TYPE_CHECKING:
    from lightning_proxy.relay.session import Session

_log = structlog.get_logger()

#: Used ones included: they are kept for good, so that no key is ever used again.
_MAX_EVER: Final = 10_000
#: Those that one session's peer may use up before the wallet has looked at any of it.
_MAX_UNSEEN: Final = 4


class Accepted(NamedTuple):
    """An `open_channel` was accepted with a slot: what the peer gets, and what the wallet."""

    message: bytes
    notice: SlotUsed


class Slots:
    """Those of all wallets; `load` first. What touches the disk raises `StoreError`."""

    def __init__(self, database: Database, max_per_wallet: int) -> None:
        self._store = SlotStore(database)
        self._max_per_wallet = max_per_wallet
        self._free: dict[bytes, int] = {}

    async def load(self) -> None:
        self._free = await self._store.counts()

    def forget(self, wallet: bytes) -> None:
        """The store has none of this wallet's (node id) any more."""
        self._free.pop(wallet, None)

    def has_any(self, wallet: bytes) -> bool:
        """Whether this wallet (node id) has a free one."""
        return wallet in self._free

    def free(self, wallet: bytes) -> int:
        """How many free ones this wallet (node id) has."""
        return self._free.get(wallet, 0)

    async def add(self, wallet: bytes, slots: list[Slot]) -> list[SlotInfo]:
        """Keep these, all or none; raises `RpcError` (invalid_params, limit)."""
        for slot in slots:
            _check(slot)
        if self._free.get(wallet, 0) + len(slots) > self._max_per_wallet:
            raise RpcError(
                ErrorCode.LIMIT, f"A wallet may leave {self._max_per_wallet} key slots at a time."
            )
        by_id = {secrets.token_hex(16): slot for slot in slots}
        self._count(wallet, len(by_id))
        is_kept = False
        try:
            if await self._store.total(wallet) + len(by_id) > _MAX_EVER:
                raise RpcError(
                    ErrorCode.LIMIT, "This wallet has left all the key slots that it may."
                )
            is_kept = await self._store.add(wallet, by_id)
        finally:
            if not is_kept:
                self._count(wallet, -len(by_id))
        if not is_kept:
            raise RpcError(
                ErrorCode.INVALID_PARAMS,
                "One of these keys was left here before: every slot needs fresh ones.",
            )
        audit("slots_added", wallet=wallet, slot_ids=list(by_id))
        return [info for info in await self._store.describe(wallet) if info.slot_id in by_id]

    async def list(self, wallet: bytes) -> list[SlotInfo]:
        """The free ones, and those used last."""
        return await self._store.describe(wallet)

    async def remove(self, wallet: bytes, slot_id: str) -> None:
        """Raises `RpcError` (invalid_params)."""
        if not await self._store.use(wallet, slot_id, None):
            raise RpcError(ErrorCode.INVALID_PARAMS, "This wallet has no free slot of that id.")
        self._count(wallet, -1)
        audit("slot_removed", wallet=wallet, slot_id=slot_id)

    async def accept(
        self, wallet: bytes, session_id: str, peer: bytes, channel: Channel
    ) -> Accepted | None:
        """Accept the channel (`open_channel` came) with a slot that fits; None: none does.

        When this returns the slot is used up for good, whatever happens then. The channel itself
        is not touched.
        """
        offer = channel.open_channel
        for slot in await self._store.free(wallet):
            if not fits(slot.policy, peer, offer):
                continue
            message = accept_channel(slot.answer, channel.channel_id, offer.channel_type)
            raw = message.encode()
            try:
                Channel.replay(channel.role, channel.features, channel.log).send(raw, message)
            except BoltError as error:
                # Spending it would cost the wallet its keys for nothing.
                _log.info("slot_does_not_fit", slot_id=slot.slot_id, reason=str(error))
                continue
            notice = SlotUsed(
                slot_id=slot.slot_id,
                session_id=session_id,
                peer=peer.hex(),
                channel_id=channel.channel_id.hex(),
                open_channel=channel.log[0].raw.hex(),
                accept_channel=raw.hex(),
            )
            if await self._store.use(wallet, slot.slot_id, notice):
                self._count(wallet, -1)
                audit(
                    "slot_used",
                    wallet=wallet,
                    slot_id=slot.slot_id,
                    session_id=session_id,
                    peer=peer,
                    channel_id=channel.channel_id,
                )
                return Accepted(raw, notice)
        return None

    def _count(self, wallet: bytes, change: int) -> None:
        self._free[wallet] = self._free.get(wallet, 0) + change
        if not self._free[wallet]:
            del self._free[wallet]


class SessionSlots:
    """The slots of its wallet, for one session's peer: it can't make a wallet spend all it left."""

    __slots__ = ("_session", "_slots", "_unseen")

    def __init__(self, session: "Session", slots: Slots) -> None:
        self._session = session
        self._slots = slots
        #: Used here since the wallet last said something to this peer's openings.
        self._unseen = 0

    def wallet_came(self) -> None:
        """It knows what was done in its name so far."""
        self._unseen = 0

    @property
    def may_use(self) -> bool:
        """Whether an `open_channel` may get one now: a wallet that is there answers by itself."""
        inbox = self._session.inbox
        if inbox.is_attended:
            self.wallet_came()
            return False
        return (
            inbox.node_id is not None
            and self._unseen < _MAX_UNSEEN
            and self._slots.has_any(inbox.node_id)
        )

    async def accept(self, channel: Channel) -> bytes | None:
        """As `Slots.accept`, and the wallet is told; returns the `accept_channel` for the peer.

        Only where it `may_use` one. The message has not been given to the channel.
        """
        session, inbox = self._session, self._session.inbox
        assert inbox.node_id is not None  # noqa: S101 - `may_use`
        # Before the disk is asked: another opening may come meanwhile.
        self._unseen += 1
        accepted = None
        try:
            accepted = await self._slots.accept(
                inbox.node_id, session.id, session.peer.node_id, channel
            )
        finally:
            if accepted is None:
                self._unseen = max(0, self._unseen - 1)
        if accepted is None:
            return None
        inbox.notify(accepted.notice)
        session.say(
            _log.info,
            "slot_used",
            slot_id=accepted.notice.slot_id,
            channel_id=channel.channel_id.hex(),
        )
        return accepted.message


def fits(policy: SlotPolicy, peer: bytes, offer: OpenChannel) -> bool:
    """Whether the wallet wants this `open_channel` of this peer (node id) accepted."""
    return (
        # Nobody here announces one: the wallet, asked, says so to the peer.
        not offer.channel_flags & ANNOUNCE_CHANNEL
        and policy.min_funding_sat <= offer.funding_satoshis <= policy.max_funding_sat
        and (policy.peers is None or peer.hex() in policy.peers)
        and (policy.channel_types is None or _type_of(offer) in policy.channel_types)
    )


def _type_of(offer: OpenChannel) -> str | None:
    return None if offer.channel_type is None else offer.channel_type.hex()


def _check(slot: Slot) -> None:
    if slot.answer.channel_type is not None:
        raise RpcError(
            ErrorCode.INVALID_PARAMS,
            "A slot's answer names no channel_type: the peer's is taken, if the policy allows it.",
        )
    if slot.policy.min_funding_sat > slot.policy.max_funding_sat:
        raise RpcError(ErrorCode.INVALID_PARAMS, "min_funding_sat is above max_funding_sat.")
