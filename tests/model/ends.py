"""One end of a channel: a wallet with its record, and the relay that keeps its place.

The wallet is the real one, step by step and within transactions that may fail; the relay's part is
its real copy of the channel, with what it would have on its disk. Nothing here waits for anything:
what is on its way stands in queues.
"""

import sqlite3
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from lightning_proxy import rpc
from lightning_proxy.bolt.channel.begin import snapshot_of
from lightning_proxy.bolt.channel.normal import take
from lightning_proxy.bolt.channel.reestablish import disconnected, reestablish, reestablish_of
from lightning_proxy.bolt.channel.snapshot import Snapshot
from lightning_proxy.bolt.channel.terms import terms_of
from lightning_proxy.bolt.channel.updates import find_htlc
from lightning_proxy.bolt.invoice import parse
from lightning_proxy.bolt.messages import (
    ChannelReestablish,
    CommitmentSigned,
    Message,
    RevokeAndAck,
    UpdateFulfillHtlc,
    decode,
)
from lightning_proxy.relay.live import LiveChannel, Stale
from lightning_proxy.relay.questions import CommitmentQuestion
from lightning_proxy.relay.resuming import resumed
from lightning_proxy.wallet.events import Event
from lightning_proxy.wallet.keys import ChannelSecrets, WalletKeys
from lightning_proxy.wallet.moving import rounds
from lightning_proxy.wallet.moving.invoices import make_invoice
from lightning_proxy.wallet.moving.paying import attempt
from lightning_proxy.wallet.moving.schema import SCHEMA
from lightning_proxy.wallet.moving.tables import Book, Live
from lightning_proxy.wallet.policy import Policy
from lightning_proxy.wallet.record import Ledger, StoredChannel
from tests.support.moving import take_any
from tests.support.opening import Side

T = TypeVar("T")
HEIGHT = 100
#: So that nothing expires, however long a run takes.
NOW = 2_000_000_000.0
POLICY = Policy(chains=("regtest",), max_dust_msat=50_000_000)


class Lost(Exception):
    """The wallet's process ends here."""


class Keys(WalletKeys):
    """A wallet's, whose one channel has these."""

    def __init__(self, seed: bytes, secrets: ChannelSecrets) -> None:
        super().__init__(seed)
        self.secrets = secrets

    def channel(self, index: int, salt: bytes | None = None) -> ChannelSecrets:
        return self.secrets


class Wallet:
    """Its record is the only thing that it goes by."""

    def __init__(self, side: Side) -> None:
        role = side.channel.role
        self.keys = Keys(role.value.encode().ljust(32, b"."), side.keys)
        self.first = snapshot_of(side.channel)
        self.height: int | None = HEIGHT
        self.events: list[Event] = []
        #: By number: what it signed, and what it revoked with.
        self.signed: dict[int, bytes] = {}
        self.revoked: dict[int, bytes] = {}
        #: All that it has taken and said, for good; None: a lost connection.
        self.history: list[tuple[bool, bytes] | None] = []
        self._database = sqlite3.connect(":memory:", isolation_level=None)
        for statement in SCHEMA:
            self._database.execute(statement)
        self._stored = StoredChannel(
            0, None, b"", role, side.channel.features, 0.0, (), None, None, None
        )
        self.change(lambda book: book.begin(Live(0, self.first, "0")))

    def close(self) -> None:
        self._database.close()

    @property
    def live(self) -> Live:
        live = Book(Ledger(self._database)).live(0)
        assert live is not None
        return live

    @property
    def means(self) -> rounds.Means:
        return rounds.Means(self.keys, POLICY, self.height, has_chain=True, now=NOW)

    def change(self, work: Callable[[Book], T], *, dies: bool = False) -> T:
        """In one transaction; `dies`: it was not written, and nobody hears of it."""
        self._database.execute("BEGIN")
        try:
            result = work(Book(Ledger(self._database)))
            if dies:
                raise Lost
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")
        return result

    # ---- steps ----

    def reestablish(self, session: str, *, dies: bool = False) -> rpc.Reestablish:
        answer = self.change(
            lambda book: rounds.reestablish(book, self._stored, session), dies=dies
        )
        self.history.append(None)
        return answer

    def answer(
        self, session: str, fence: rpc.Fence, raws: list[bytes], *, dies: bool = False
    ) -> rpc.Commitment:
        before = self.live
        answer, done = self.change(
            lambda book: rounds.answer(book, self._stored, self.means, session, fence, raws),
            dies=dies,
        )
        self._note(before, done, raws[before.heard - fence.heard :])
        return answer

    def turn(self, raws: tuple[bytes, ...] = (), *, dies: bool = False) -> rpc.UpdateChannel | None:
        """Of its own accord."""
        before = self.live
        done = self.change(
            lambda book: rounds.turn(book, self._stored, before, self.means, raws), dies=dies
        )
        self._note(before, done, list(raws))
        return rounds.update_of(done.live)

    def _note(self, before: Live, done: rounds.Round, heard: list[bytes]) -> None:
        """What was written holds what has to be there before any of it leaves."""
        after = self.live
        assert after == done.live
        self.events += done.events
        self.history += [(True, raw) for raw in heard]
        count = after.said - before.said
        for raw in after.unsure[len(after.unsure) - count :] if count else ():
            self.history.append((False, raw))
            message = decode(raw)
            if isinstance(message, CommitmentSigned):
                number = after.snapshot.theirs.latest.state.commitment_number
                assert number not in self.signed
                self.signed[number] = raw
            elif isinstance(message, RevokeAndAck):
                ours = after.snapshot.ours.commitment
                number = ours.state.commitment_number - 1
                assert number not in self.revoked
                # Its successor is signed, and on the disk.
                assert ours.commitment_signed
                self.revoked[number] = raw
            elif isinstance(message, UpdateFulfillHtlc):
                peer = after.snapshot.role.other
                assert find_htlc(after.snapshot, peer, message.id) is not None

    def replay(self) -> Snapshot:
        """The channel, from the opening on, by what was said and heard alone."""
        snapshot = self.first
        for entry in self.history:
            if entry is None:
                snapshot = disconnected(snapshot)
                ours = reestablish_of(snapshot, snapshot.role)
                snapshot = reestablish(snapshot, snapshot.role, ours).snapshot
                continue
            is_peers, raw = entry
            message = decode(raw)
            if isinstance(message, ChannelReestablish):
                snapshot = reestablish(snapshot, snapshot.role.other, message).snapshot
            else:
                sender = snapshot.role.other if is_peers else snapshot.role
                snapshot = take(snapshot, sender, raw, message, check=take_any)
        return snapshot

    # ---- payments ----

    def invoice(self, salt: bytes, amount_msat: int, *, keep: bool) -> str:
        """One that it will not know again, if it is not kept."""
        fresh = make_invoice(
            self.keys,
            salt.ljust(32, b"."),
            chain="regtest",
            amount_msat=amount_msat,
            description="",
            expiry=3600,
            hints=(),
            now=NOW,
        )
        if keep:
            self.change(lambda book: book.add_invoice(fresh, amount_msat, "", NOW))
        return fresh.text

    def wish_to_pay(self, text: str) -> None:
        signed = parse(text)
        invoice = signed.invoice
        assert invoice.amount_msat is not None
        amount = invoice.amount_msat
        tried = attempt(signed, amount, b"\x07" * 32, HEIGHT)
        self.change(
            lambda book: book.add_payment(
                invoice.payment_hash, text, signed.payee, amount, 0, tried
            )
        )

    def wish_for_fee(self, feerate: int) -> None:
        self.change(lambda book: book.update(replace(self.live, feerate=feerate)))


@dataclass(frozen=True)
class Question:
    session: str
    #: None: it is about where the channel is.
    fence: rpc.Fence | None
    raws: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Told:
    """The peer's `channel_reestablish`, which the wallet gets as a message."""

    session: str
    raw: bytes


@dataclass(frozen=True)
class Answer:
    session: str
    fence: rpc.Fence | None
    body: Any


class Relay:
    """What it knows without a key; `stored` is all of it that outlives the process."""

    def __init__(self, side: Side) -> None:
        self.channel = side.channel
        self.stored: bytes | None = None
        self.live: LiveChannel | None = LiveChannel(snapshot_of(side.channel))
        self.session = "0"
        self._asked: CommitmentQuestion | None = None

    @property
    def question(self) -> Question | None:
        """What is open, as a socket gets it."""
        if self.live is None:
            return Question(self.session, None)
        if self._asked is None:
            return None
        raws, fence = self._asked.moves()
        return Question(self.session, fence, tuple(raws))

    def hang_up(self, session: str) -> None:
        """The connection to the peer is gone, and another one is there."""
        self.session = session
        self.live = None
        self._asked = None

    def resume(self, answer: rpc.Reestablish) -> bytes:
        """Go on from the wallet's snapshot; returns what is said to the peer for it."""
        message = ChannelReestablish(
            channel_id=self.channel.channel_id,
            next_commitment_number=answer.next_commitment_number,
            next_revocation_number=answer.next_revocation_number,
            your_last_per_commitment_secret=bytes.fromhex(answer.your_last_per_commitment_secret),
            my_current_per_commitment_point=bytes.fromhex(answer.my_current_per_commitment_point),
        )
        assert answer.snapshot is not None
        data = bytes.fromhex(answer.snapshot)
        self.live = LiveChannel(resumed(self.channel, data, message, self.stored))
        return message.encode()

    def ask(self) -> Question | None:
        """A new question, if one is due."""
        live = self.live
        if live is None or self._asked is not None:
            return None
        if not (live.is_wallets_turn or live.is_wallets_gain):
            return None
        self._asked = CommitmentQuestion(self.channel, live, lambda *_: None)
        return self.question

    def take(self, answer: "Answer") -> list[bytes] | None:
        """What leaves for this once it is stored; None: it is about what is over."""
        if self.live is None or answer.session != self.session:
            return None
        if answer.fence is None:
            said = answer.body.said
        elif self._asked is not None and self._asked.moves()[1] == answer.fence:
            said = answer.fence.said
        else:
            return None
        words = [bytes.fromhex(word) for word in answer.body.messages]
        try:
            fresh = self.live.take(answer.body.heard, said, words)
        except Stale:
            # A word of the wallet's own that has overtaken it says more.
            assert answer.body.heard < self.live.heard
            return None
        if answer.fence is not None or (self._asked is not None and not self._asked.is_open):
            self._asked = None
        return fresh

    def store(self) -> None:
        assert self.live is not None
        self.stored = self.live.base.encode()


class End:
    """`line` is on its way to the other end, the others between wallet and relay."""

    def __init__(self, side: Side) -> None:
        self.wallet = Wallet(side)
        self.relay = Relay(side)
        self.line: deque[bytes] = deque()
        self.to_wallet: deque[Question | Told] = deque()
        self.to_relay: deque[Answer] = deque()
        #: All that has left for the peer, whenever.
        self.left: set[bytes] = set()
        self.other: End

    @property
    def channel_id(self) -> bytes:
        return terms_of(self.wallet.first).channel_id

    # ---- the relay ----

    def send(self, *raws: bytes) -> None:
        """To the peer. Only what is in the wallet's record may leave."""
        for raw in raws:
            message = decode(raw)
            if isinstance(message, CommitmentSigned):
                assert raw in self.wallet.signed.values()
            elif isinstance(message, RevokeAndAck):
                assert raw in self.wallet.revoked.values()
            elif isinstance(message, UpdateFulfillHtlc) and raw not in self.left:
                self._check_irrevocable(message)
            self.left.add(raw)
            self.line.append(raw)

    def _check_irrevocable(self, message: UpdateFulfillHtlc) -> None:
        """The peer has given up every state without this HTLC: its own record says so."""
        theirs = self.other.wallet.live.snapshot
        htlcs = theirs.ours.commitment.state.htlcs
        assert any(each.id == message.id and each.offered_by is theirs.role for each in htlcs)

    def hear(self, raw: bytes) -> None:
        """The relay gets this from the peer; raises `BoltError`."""
        message: Message = decode(raw)
        live = self.relay.live
        assert live is not None
        again = live.received(raw, message)
        if isinstance(message, ChannelReestablish):
            self.to_wallet.append(Told(self.relay.session, raw))
        self.send(*again)
        self.ask()

    def ask(self) -> None:
        question = self.relay.ask()
        if question is not None:
            self.to_wallet.append(question)

    def relay_hears(self, *, dies_before: bool = False, dies_after: bool = False) -> None:
        """The wallet's next word; raises `Lost` where the relay ends with it, stored or not."""
        answer = self.to_relay.popleft()
        relay = self.relay
        if isinstance(answer.body, rpc.Reestablish):
            if answer.session == relay.session and relay.live is None:
                self.send(relay.resume(answer.body))
            return
        fresh = relay.take(answer)
        if fresh is not None:
            if dies_before:
                raise Lost
            relay.store()
            if dies_after:
                raise Lost
            self.send(*fresh)
        self.ask()

    # ---- the wallet ----

    def wallet_hears(self, *, dies_before: bool = False, dies_after: bool = False) -> None:
        """The relay's next word; raises `Lost` where the wallet ends with it, stored or not.

        And what the wallet refuses: `BoltError`, `Refusal`, `StateLost`.
        """
        asked = self.to_wallet.popleft()
        body: Any
        fence = None
        if isinstance(asked, Told):
            live = self.wallet.live
            if live.session_id != asked.session or live.heard:
                return
            body = self.wallet.turn((asked.raw,), dies=dies_before)
        elif asked.fence is None:
            body = self.wallet.reestablish(asked.session, dies=dies_before)
        elif asked.session != self.wallet.live.session_id:
            # It was asked on a connection that is gone since.
            return
        else:
            fence = asked.fence
            body = self.wallet.answer(asked.session, fence, list(asked.raws), dies=dies_before)
        if dies_after:
            raise Lost
        self._say(body, fence, asked.session)

    def go_on(self) -> None:
        """The wallet says what it has to say by itself."""
        self._say(self.wallet.turn(), None, self.wallet.live.session_id)

    def _say(self, body: Any, fence: rpc.Fence | None, session: str) -> None:
        if body is not None:
            self.to_relay.append(Answer(session, fence, body))

    def new_socket(self) -> None:
        """Between wallet and relay: what was on its way is lost, open questions come again."""
        self.to_wallet.clear()
        self.to_relay.clear()
        if self.relay.question is not None:
            self.to_wallet.append(self.relay.question)
        self.go_on()
