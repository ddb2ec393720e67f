"""A wallet, the relay's room for one of its channels by the contract, and a peer that moves it."""

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning_proxy import rpc
from lightning_proxy.bolt.channel.begin import snapshot_of
from lightning_proxy.bolt.channel.normal import take
from lightning_proxy.bolt.channel.reestablish import reestablish, reestablish_of
from lightning_proxy.bolt.channel.snapshot import Snapshot
from lightning_proxy.bolt.channel.updates import Removal, find_htlc
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.invoice import parse
from lightning_proxy.bolt.messages import (
    ChannelReestablish,
    CommitmentSigned,
    Message,
    RevokeAndAck,
    UpdateAddHtlc,
    UpdateFulfillHtlc,
    decode,
)
from lightning_proxy.bolt.onion import Hop, Payload, PaymentData, construct, ecdh_with, peel
from lightning_proxy.bolt.onion import payloads as onion_payloads
from lightning_proxy.rpc import DelegationKind
from lightning_proxy.wallet.confirmations import OwnChain
from lightning_proxy.wallet.errors import ConnectionLost, RelayError
from lightning_proxy.wallet.events import Event
from lightning_proxy.wallet.moving.purse import Purse
from tests.support.moving import Mover
from tests.unit.wallet.fake_chain import FakeChain
from tests.unit.wallet.openings import POLICY, Opening, SigningWallet
from tests.unit.wallet.samples import PEER, PEER_SECRET, SESSION_ID

SESSION_KEY = b"\x77" * 32


class Moved:
    """One channel between a wallet and a peer, ready from the start.

    The relay's part is as the contract has it: `base`, `heard`, `said`, `pending`.
    """

    def __init__(self, wallet: SigningWallet, opening: Opening, chain: FakeChain) -> None:
        self.wallet = wallet
        self.chain = chain
        self.peer = Mover(opening.peer.keys, snapshot_of(opening.peer.channel))
        self.wallet_role = self.peer.role.other
        self.session_id = SESSION_ID
        self.base = snapshot_of(opening.relay)
        self.heard = self.said = 0
        self.pending: list[bytes] = []
        self.to_peer: deque[bytes] = deque()
        self.from_peer: deque[bytes] = deque()
        self.events: list[Event] = []
        #: Each message of the wallet's that left, on whatever connection.
        self.left: list[Message] = []
        #: What the peer does with HTLCs that are irrevocable; by default nothing.
        self.decide: Callable[[UpdateAddHtlc], Message | None] = lambda _: None
        self.offered: dict[int, UpdateAddHtlc] = {}
        self.wishes: deque[Callable[[Mover], Message]] = deque()
        self.is_connected = True
        self.is_reachable = True
        self.attach()

    def attach(self) -> None:
        """Join a wallet that has just begun."""
        moves = self.wallet.signer.moves
        self.purse = Purse(moves, self.wallet.chain, lambda _: self.session_id)

        def emit(event: Event) -> None:
            self.purse.note(event)
            self.events.append(event)

        moves.attach(emit, self.update)

    @property
    def channel_id(self) -> bytes:
        return self.peer.channel_id

    # ---- the relay ----

    @property
    def fence(self) -> rpc.Fence:
        return rpc.Fence(
            self.base.ours.commitment.state.commitment_number,
            self.base.theirs.commitment.state.commitment_number,
            self.heard,
            self.said,
        )

    async def ask(self, **changes: Any) -> rpc.Commitment:
        """One question, and what the wallet answers; nothing is done with it."""
        fields = {"fence": self.fence, "session_id": self.session_id, **changes}
        delegate = self.wallet.delegate(
            DelegationKind.COMMITMENT, self.channel_id, *self.pending, **fields
        )
        answer = await self.wallet.put(delegate)
        assert isinstance(answer, rpc.Commitment)
        return answer

    async def update(self, update: rpc.UpdateChannel) -> None:
        """`update_channel`, as the relay takes it."""
        if not self.is_reachable:
            raise _unreachable()
        if update.session_id != self.session_id:
            raise RelayError("session_unknown", "There is no such session.")
        messages = [bytes.fromhex(message) for message in update.messages]
        self.take(update.heard, update.said, messages)

    def take(self, heard: int, said: int, messages: list[bytes]) -> None:
        """By the contract; raises `RelayError`, and `BoltError` for what may never leave."""
        if not self.heard <= heard <= self.heard + len(self.pending):
            raise _stale()
        if not said <= self.said <= said + len(messages):
            raise _stale()
        new = messages[self.said - said :]
        base, role = self.base, self.wallet_role
        count = heard - self.heard
        for raw in self.pending[:count]:
            message = decode(raw)
            if isinstance(message, ChannelReestablish):
                base = reestablish(base, role.other, message).snapshot
            else:
                base = take(base, role.other, raw, message)
        for raw in new:
            base = take(base, role, raw)
        assert not base.owes_revocation
        assert not base.ours.changes.proposed
        self.base, self.heard, self.said = base, heard, self.said + len(new)
        del self.pending[:count]
        self.left += [decode(raw) for raw in new]
        if self.is_connected:
            self.to_peer.extend(new)

    # ---- the peer ----

    def peer_says(self, *messages: Message) -> None:
        for message in messages:
            raw = self.peer.say(message)
            self.from_peer.append(raw)

    def peer_moves(self) -> bool:
        """Whether the peer had something to hear, or to say."""
        if self.to_peer:
            raw = self.to_peer.popleft()
            message = decode(raw)
            self.from_peer.extend(self.peer.hear(raw))
            if isinstance(message, UpdateAddHtlc):
                self.offered[message.id] = message
            return True
        if self.peer.snapshot.owes_revocation:
            self.peer_says(self.peer.revoke_and_ack())
            return True
        owed = self._owed() if self.peer.is_connected else None
        if owed is not None:
            self.peer_says(owed)
        return owed is not None

    def _owed(self) -> Message | None:
        """What the peer says of its own accord."""
        for add in self.offered.values():
            if not self._is_open(add.id):
                continue
            removal = self.decide(add)
            if removal is not None:
                return removal
        if self.peer.snapshot.theirs.unrevoked is None and self.wishes:
            return self.wishes.popleft()(self.peer)
        return self.peer.commitment_signed() if self.peer.snapshot.may_commit else None

    def _is_open(self, htlc_id: int) -> bool:
        """Whether the peer could remove this HTLC of the wallet's, and has not."""
        snapshot = self.peer.snapshot
        spoken = [decode(raw) for raw in snapshot.ours.changes.pending]
        return find_htlc(snapshot, self.wallet_role, htlc_id) is not None and not any(
            isinstance(message, Removal) and message.id == htlc_id for message in spoken
        )

    # ---- all of them ----

    def deliver(self) -> bool:
        """What the peer has said reaches the relay."""
        was = bool(self.from_peer)
        self.pending.extend(self.from_peer)
        self.from_peer.clear()
        return was

    @property
    def is_wallets_turn(self) -> bool:
        turns = (CommitmentSigned, RevokeAndAck, UpdateFulfillHtlc)
        return any(isinstance(decode(raw), turns) for raw in self.pending)

    async def round(self) -> None:
        """One question and its answer."""
        said = self.said
        answer = await self.ask()
        self.take(answer.heard, said, [bytes.fromhex(message) for message in answer.messages])

    async def step(self) -> bool:
        """The next thing that happens; False: nothing is left to happen."""
        if self.peer_moves() or self.deliver():
            return True
        if self.is_wallets_turn:
            await self.round()
            return True
        return False

    async def settle(self) -> None:
        while await self.step():
            pass

    # ---- the connection ----

    def disconnect(self) -> None:
        self.is_connected = False
        self.to_peer.clear()
        self.from_peer.clear()
        self.pending.clear()
        self.peer.disconnect()

    async def ask_reestablish(self, number: int = 1) -> rpc.Reestablish:
        """A new session: the wallet is asked where the channel stands."""
        self.session_id = f"{number:032x}"
        self.is_connected = True
        delegate = self.wallet.delegate(
            DelegationKind.REESTABLISH, self.channel_id, session_id=self.session_id
        )
        answer = await self.wallet.put(delegate)
        assert isinstance(answer, rpc.Reestablish)
        return answer

    async def reconnect(self, number: int = 1) -> None:
        """A new session, on which the channel is gone on with."""
        answer = await self.ask_reestablish(number)
        assert answer.snapshot is not None
        base = Snapshot.decode(bytes.fromhex(answer.snapshot))
        ours = reestablish_of(base, base.role)
        assert ours.next_commitment_number == answer.next_commitment_number
        assert ours.your_last_per_commitment_secret.hex() == answer.your_last_per_commitment_secret
        self.base, self.heard, self.said = base, 0, 0
        self.base = reestablish(base, base.role, ours).snapshot
        theirs = self.peer.reconnect()
        self.from_peer.append(theirs)
        self.from_peer.extend(self.peer.hear(ours.encode()))
        message = decode(theirs)
        assert isinstance(message, ChannelReestablish)
        self.to_peer.extend(reestablish(self.base, base.role.other, message).messages)
        self.deliver()

    async def tell_reestablished(self) -> None:
        """The peer's `channel_reestablish` reaches the wallet as a message, as well."""
        raw = self.pending[0]
        message = decode(raw)
        assert isinstance(message, ChannelReestablish)
        known = await self.wallet.signer.moves.reestablished(self.session_id, PEER, raw, message)
        assert known

    def restart(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        """The wallet's process ends, and the next begins."""
        self.wallet.restart(meanwhile)
        self.attach()

    # ---- payments ----

    def add_for(self, text: str, **changes: Any) -> UpdateAddHtlc:
        """The peer's HTLC for an invoice; `changes` are of the payload, or of the HTLC."""
        return invoiced(self.peer, text, self.chain.height, **changes)

    def fulfil_with(self, preimage: bytes) -> None:
        """The peer takes whatever it is offered."""
        self.decide = lambda add: UpdateFulfillHtlc(
            channel_id=add.channel_id, id=add.id, payment_preimage=preimage
        )


def invoiced(peer: Mover, text: str, height: int, **changes: Any) -> UpdateAddHtlc:
    """What pays an invoice, if nothing is changed."""
    signed = parse(text)
    invoice = signed.invoice
    amount: int = changes.get("amount_msat", invoice.amount_msat or 0)
    expiry = changes.get("cltv_expiry", height + invoice.min_final_cltv_expiry_delta)
    payload = changes.get("payload") or Payload(
        amt_to_forward=changes.get("amt_to_forward", amount),
        outgoing_cltv_value=changes.get("outgoing_cltv_value", expiry),
        payment_data=PaymentData(
            payment_secret=changes.get("payment_secret", invoice.payment_secret),
            total_msat=changes.get("total_msat", amount),
        ),
    )
    hops = changes.get("hops") or [Hop(signed.payee, payload.encode())]
    onion = construct(hops, SESSION_KEY, invoice.payment_hash).packet
    return peer.add(
        amount,
        changes.get("payment_hash", invoice.payment_hash),
        cltv_expiry=expiry,
        onion_routing_packet=changes.get("onion", onion),
    )


#: Whose records are open.
_wallets: list[SigningWallet] = []


def close_all() -> None:
    """After each test: their records' files would stay open."""
    while _wallets:
        _wallets.pop().record.close()


async def moved(
    path: Path, wallet_role: Role = Role.ACCEPTER, *, has_chain: bool = True, **changes: Any
) -> Moved:
    """A channel of 1,000,000 sat, half of which is each side's."""
    chain = FakeChain()
    own = OwnChain(chain, patience=0.1, interval=0.01) if has_chain else None
    policy = changes.pop("policy", POLICY)
    wallet = SigningWallet(path, policy=policy)
    _wallets.append(wallet)
    opening = Opening(wallet, wallet_role)
    if wallet_role is Role.ACCEPTER:
        await opening.accept(push_msat=500_000_000, **changes)
        await opening.sign()
    else:
        await opening.offer(1_000_000, 500_000_000, **changes)
        await opening.create()
        await opening.release()
    ready = opening.peer_ready()
    await opening.ready(ready)
    wallet.restart(chain=own)
    return Moved(wallet, opening, chain)


def opened_by_peer(add: UpdateAddHtlc) -> Payload:
    """What the wallet's onion says to the peer."""
    peeled = peel(add.onion_routing_packet, ecdh_with(PEER_SECRET), add.payment_hash)
    assert peeled.next_packet is None
    return onion_payloads.decode(peeled.payload, final=True)


def _stale() -> Exception:
    return RelayError(rpc.ErrorCode.STALE.code, "The channel has moved.")


def _unreachable() -> Exception:
    return ConnectionLost("The relay is gone.")
