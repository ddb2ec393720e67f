"""Which keys may act for a wallet besides its node key, and which of them settles for a channel."""

import time
from collections import OrderedDict
from typing import Final, NamedTuple

import structlog

from lightning_proxy.audit import audit
from lightning_proxy.relay.store import Database
from lightning_proxy.relay.store.devices import DeviceStore, StoredDevice, StoredLease
from lightning_proxy.rpc import AddDevice, DeviceInfo, DeviceRight, ErrorCode, RpcError

_log = structlog.get_logger()

#: What the node key may; it alone manages devices, too.
ALL_RIGHTS: Final = frozenset(DeviceRight)
#: Revoked ones included: they stay known, so that they stay out.
_MAX_EVER: Final = 1000
#: Channels for which it is remembered who settled first, while nobody took over.
_MAX_FIRST: Final = 20_000


class LeaseKey(NamedTuple):
    """A channel of a wallet's (node id) with a peer (likewise)."""

    wallet: bytes
    peer: bytes
    #: What a channel is known by from its first message on (BOLT #2).
    temporary_channel_id: bytes


class Devices:
    """Those of all wallets; `load` first. What touches the disk raises `StoreError`."""

    def __init__(self, database: Database, max_per_wallet: int) -> None:
        self.leases = Leases(DeviceStore(database))
        self._store = DeviceStore(database)
        self._max_per_wallet = max_per_wallet
        self._of: dict[bytes, dict[bytes, StoredDevice]] = {}

    async def load(self) -> None:
        for device in await self._store.devices():
            self._of.setdefault(device.wallet, {})[device.device_key] = device
        await self.leases.load()

    def has_any(self, wallet: bytes) -> bool:
        """Whether this wallet (node id) ever authorised a device."""
        return wallet in self._of

    def forget(self, wallet: bytes) -> None:
        """The store has none of this wallet's (node id) any more."""
        self._of.pop(wallet, None)

    def rights_of(self, wallet: bytes, device_key: bytes) -> frozenset[DeviceRight]:
        """What this key may do for this wallet (node id); nothing: it is none of its devices."""
        if device_key == wallet:
            return ALL_RIGHTS
        device = self._of.get(wallet, {}).get(device_key)
        return frozenset() if device is None or device.revoked is not None else device.rights

    async def add(self, wallet: bytes, wanted: AddDevice) -> DeviceInfo:
        """Authorise a key; raises `RpcError` (invalid_params, limit)."""
        device_key = bytes.fromhex(wanted.device_key)
        known = self._of.get(wallet, {})
        if device_key == wallet or device_key in known:
            raise RpcError(
                ErrorCode.INVALID_PARAMS,
                "This key is, or was, a device of this wallet's: every device needs a fresh one.",
            )
        in_use = sum(device.revoked is None for device in known.values())
        if in_use >= self._max_per_wallet or len(known) >= _MAX_EVER:
            raise RpcError(
                ErrorCode.LIMIT, f"A wallet has {self._max_per_wallet} devices at most; revoke one."
            )
        device = StoredDevice(
            wallet, device_key, wanted.name, frozenset(wanted.rights), time.time(), None
        )
        # Here first: two requests at once may not both find the last free place.
        self._of.setdefault(wallet, {})[device_key] = device
        try:
            await self._store.add(device)
        except BaseException:
            del self._of[wallet][device_key]
            raise
        _log.info("device_authorised", wallet=wallet.hex(), device=wanted.device_key)
        audit("device_authorised", wallet=wallet, device=device_key, rights=sorted(device.rights))
        return _describe(device)

    def list(self, wallet: bytes) -> list[DeviceInfo]:
        """All, the oldest first."""
        return [_describe(device) for device in self._of.get(wallet, {}).values()]

    async def revoke(self, wallet: bytes, device_key: bytes) -> None:
        """Its sockets are the caller's to close; raises `RpcError` (invalid_params)."""
        device = self._of.get(wallet, {}).get(device_key)
        if device is None or device.revoked is not None:
            raise RpcError(ErrorCode.INVALID_PARAMS, "This wallet has no such device.")
        await self._store.revoke(wallet, device_key)
        self._of[wallet][device_key] = device._replace(revoked=time.time())
        _log.info("device_revoked", wallet=wallet.hex(), device=device_key.hex())
        audit("device_revoked", wallet=wallet, device=device_key)


class Leases:
    """For each channel one device settles: the first that did, until another takes over.

    Only taking over gives a number and is stored, with a stored channel: openings come and go, and
    cost nothing. Who was first is forgotten with the process: after a restart any device may be
    first again, but none goes before one that took over.
    """

    def __init__(self, store: DeviceStore) -> None:
        self._store = store
        self._first: OrderedDict[LeaseKey, bytes] = OrderedDict()
        self._taken: dict[LeaseKey, StoredLease] = {}
        #: Likewise, of openings.
        self._passing: OrderedDict[LeaseKey, StoredLease] = OrderedDict()

    async def load(self) -> None:
        for lease in await self._store.leases():
            self._taken[LeaseKey(*lease[:3])] = lease

    def check(self, channel: LeaseKey, device_key: bytes) -> None:
        """Raise `RpcError` (lease_held) where another device settles for this channel."""
        holder = self.holder(channel)
        if holder is not None and holder != device_key:
            raise RpcError(
                ErrorCode.LEASE_HELD,
                "Another device of this wallet's settles for this channel; to go on with it here, "
                "take it over with take_over.",
            )

    def holder(self, channel: LeaseKey) -> bytes | None:
        """The device that settles for this channel, if one does."""
        taken = self._lease(channel)
        return self._first.get(channel) if taken is None else taken.device_key

    def _lease(self, channel: LeaseKey) -> StoredLease | None:
        return self._passing.get(channel) or self._taken.get(channel)

    def settled(self, channel: LeaseKey, device_key: bytes) -> None:
        """This device's answer was taken."""
        if self._lease(channel) is None:
            self._first[channel] = device_key
            if len(self._first) > _MAX_FIRST:
                self._first.popitem(last=False)

    async def take_over(self, channel: LeaseKey, device_key: bytes, *, is_stored: bool) -> int:
        """From now on it is this device; returns the fencing number, higher than all before.

        `is_stored`: whether the channel is.
        """
        taken = self._lease(channel)
        fencing = 1 if taken is None else taken.fencing + 1
        lease = StoredLease(*channel, device_key, fencing)
        # Here first: the number is used up, and the former device is out, even if the disk fails.
        self._passing[channel] = lease
        if is_stored:
            await self.keep(channel)
        elif len(self._passing) > _MAX_FIRST:
            self._passing.popitem(last=False)
        _log.info(
            "lease_taken",
            wallet=channel.wallet.hex(),
            channel_id=channel.temporary_channel_id.hex(),
            device=device_key.hex(),
            fencing=fencing,
        )
        audit(
            "lease_taken",
            wallet=channel.wallet,
            peer=channel.peer,
            channel_id=channel.temporary_channel_id,
            device=device_key,
            fencing=fencing,
        )
        return fencing

    async def keep(self, channel: LeaseKey) -> None:
        """The channel is stored, and so is its lease, if a device took it over."""
        if (lease := self._passing.get(channel)) is not None:
            self._taken[channel] = lease
            await self._store.grant(lease)
            if self._passing.get(channel) is lease:
                del self._passing[channel]

    def drop(self, channel: LeaseKey) -> None:
        """The opening is no more."""
        self._passing.pop(channel, None)

    async def forget(self, channel: LeaseKey) -> None:
        """The channel is no more."""
        self._passing.pop(channel, None)
        self._first.pop(channel, None)
        if self._taken.pop(channel, None) is not None:
            await self._store.forget(*channel)


def _describe(device: StoredDevice) -> DeviceInfo:
    return DeviceInfo(
        device_key=device.device_key.hex(),
        name=device.name,
        rights=sorted(device.rights),
        created=device.created,
        revoked=device.revoked,
    )
