"""Wallets that are paid: each rebuilds, checks, signs and peels, but none keeps a record."""

import asyncio
from collections.abc import Sequence
from itertools import cycle
from typing import Any, Final

import msgspec

from benchmarks.moving.channels import PEER_NODE_ID, Channel, preimage_of
from benchmarks.moving.process import Answer
from benchmarks.wallets import SocketWallet, WalletFailed, socket_wallet
from lightning_proxy import rpc
from lightning_proxy.bolt.channel.reestablish import disconnected, reestablish, reestablish_of
from lightning_proxy.bolt.channel.snapshot import Snapshot
from lightning_proxy.bolt.channel.updates import Removal, find_htlc
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.messages import UpdateAddHtlc, UpdateFulfillHtlc
from lightning_proxy.bolt.onion import ecdh_with, peel
from lightning_proxy.transport.handshake import Initiator
from lightning_proxy.wallet.moving.limits import Limits
from lightning_proxy.wallet.moving.step import hear, speak

_LIMITS: Final = Limits(max_feerate_per_kw=25_000, max_dust_msat=50_000_000)
#: Wallets that come at once.
_AT_ONCE: Final = 16


class _Wallet:
    """One with one channel."""

    def __init__(self, channel: Channel) -> None:
        self._secret = channel.secret
        self._ecdh = ecdh_with(channel.secret)
        mover = channel.mover(Role.ACCEPTER)
        self._keys = mover.keys
        self._snapshot: Snapshot = disconnected(mover.snapshot)
        self._heard = 0
        self._said: list[bytes] = []
        self._first = 0
        self._adds: dict[int, UpdateAddHtlc] = {}
        self._calls = 0
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._socket: SocketWallet

    async def come(self, url: str, port: int, peer: str) -> None:
        self._socket = await socket_wallet(url, port, self._secret, self._on_text)
        initiator = Initiator(self._secret, PEER_NODE_ID)
        connected = await self._call("connect", peer=peer, act_one=initiator.act_one().hex())
        act_three = initiator.act_two(bytes.fromhex(connected["act_two"]))
        keys = initiator.keys
        await self._call(
            "handshake",
            session_id=connected["session_id"],
            act_three=act_three.hex(),
            sending=_direction(keys.sending_key, keys.chaining_key),
            receiving=_direction(keys.receiving_key, keys.chaining_key),
            commitments=True,
        )

    async def _call(self, method: str, **params: Any) -> Any:
        self._calls += 1
        waiter = self._waiting[self._calls] = asyncio.get_running_loop().create_future()
        self._socket.send(rpc.encode_request(self._calls, method, params).encode())
        return await waiter

    def _on_text(self, text: bytes) -> None:
        said = msgspec.json.decode(text)
        match said:
            case {"method": "delegate", "params": {"kind": "reestablish"} as question}:
                self._answer(question, self._reestablish())
            case {"method": "delegate", "params": {"kind": "commitment"} as question}:
                self._answer(question, self._commitment(question))
            case {"method": "message"}:
                # The peer's `channel_reestablish`: it comes by the first question, too.
                pass
            case {"result": result}:
                self._waiting.pop(said["id"]).set_result(result)
            case _:
                raise WalletFailed(text.decode())

    def _answer(self, question: dict[str, Any], result: Any) -> None:
        self._socket.send(
            msgspec.json.encode({"jsonrpc": "2.0", "id": question["id"], "result": result})
        )

    def _reestablish(self) -> dict[str, Any]:
        snapshot = self._snapshot
        says = reestablish_of(snapshot, snapshot.role)
        self._snapshot = reestablish(snapshot, snapshot.role, says).snapshot
        return {
            "next_commitment_number": says.next_commitment_number,
            "next_revocation_number": says.next_revocation_number,
            "your_last_per_commitment_secret": says.your_last_per_commitment_secret.hex(),
            "my_current_per_commitment_point": says.my_current_per_commitment_point.hex(),
            "snapshot": snapshot.encode().hex(),
        }

    def _commitment(self, question: dict[str, Any]) -> dict[str, Any]:
        fence = question["fence"]
        messages = [bytes.fromhex(raw) for raw in question["messages"]]
        fresh = messages[self._heard - fence["heard"] :]
        heard = hear(self._snapshot, self._keys, fresh, _LIMITS)
        self._heard += len(fresh)
        self._adds |= {add.id: add for add in heard.adds}
        spoken = speak(heard.snapshot, self._keys, self._removals(heard.snapshot))
        for removal in spoken.said:
            if isinstance(removal, Removal):
                del self._adds[removal.id]
        self._snapshot = spoken.snapshot
        # What the relay has already is wanted no more.
        self._said = self._said[fence["said"] - self._first :]
        self._first = fence["said"]
        self._said += [*heard.messages, *spoken.messages]
        return {"heard": self._heard, "messages": [raw.hex() for raw in self._said]}

    def _removals(self, snapshot: Snapshot) -> list[UpdateFulfillHtlc]:
        """For every HTLC that is irrevocable."""
        removals = []
        for add in self._adds.values():
            if find_htlc(snapshot, snapshot.role.other, add.id) is not None:
                peel(add.onion_routing_packet, self._ecdh, add.payment_hash)
                removals.append(
                    UpdateFulfillHtlc(
                        channel_id=add.channel_id,
                        id=add.id,
                        payment_preimage=preimage_of(add.channel_id, add.id),
                    )
                )
        return removals


def _direction(key: bytes, chaining_key: bytes) -> dict[str, Any]:
    return {"key": key.hex(), "nonce": 0, "chaining_key": chaining_key.hex()}


async def wallets(channels: Sequence[Channel], url: str, port: int, peers: Sequence[str]) -> Answer:
    """All of them online; answers `ready`."""
    at_once = asyncio.Semaphore(_AT_ONCE)

    async def come(channel: Channel, peer: str) -> _Wallet:
        async with at_once:
            wallet = _Wallet(channel)
            await wallet.come(url, port, peer)
            return wallet

    everyone = await asyncio.gather(
        *(come(each, peer) for each, peer in zip(channels, cycle(peers), strict=False))
    )

    async def answer(what: str) -> Any:
        if what == "ready":
            return len(everyone)
        raise ValueError(what)

    return answer
