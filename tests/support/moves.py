"""A channel that moves over a real relay: a wallet by hand and a scripted peer, with real keys."""

from pathlib import Path
from typing import Any

from lightning_proxy.bolt.channel.reestablish import reestablish_of
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.messages import (
    ChannelReady,
    CommitmentSigned,
    Message,
    RevokeAndAck,
    UpdateFulfillHtlc,
    decode,
    name_of,
)
from lightning_proxy.relay.store import ChannelStore, Database, StoredChannel
from lightning_proxy.rpc import Fence
from tests.support.living import WalletSide
from tests.support.moving import Mover, movers_of, opened
from tests.support.peer import PeerConnection, ScriptedPeer
from tests.support.relay import RawWallet

PING, PONG = b"\x00\x12\x00\x03\x00\x00", b"\x00\x13"


class Moves:
    """The wallet has `role` in it; `store` is where a relay will find the channel, ready."""

    def __init__(self, role: Role = Role.ACCEPTER, **opening: Any) -> None:
        self.role = role
        self.sides = opened(**{"push_msat": 500_000_000, **opening})
        both = movers_of(self.sides)
        self.peer = both[role.other]
        self.wallet = WalletSide(both[role])
        #: What the peer has said on this connection that counts.
        self.spoken: list[bytes] = []
        #: And how many of the wallet's messages it has heard, those that came again aside.
        self.heard = 0
        self.session_id = ""
        self.connection: PeerConnection

    @property
    def channel_id(self) -> bytes:
        return self.peer.channel_id

    async def store(self, path: Path, wallet: bytes, peer: bytes) -> None:
        """As a relay that had it opened would have left it."""
        channel = self.sides[self.role].channel
        stored = StoredChannel(
            wallet, self.channel_id, peer, self.role, channel.features, tuple(channel.log)
        )
        async with Database(str(path)) as database:
            await ChannelStore(database).save(stored)

    # ---- the connection ----

    async def connect(self, wallet: RawWallet, peer: ScriptedPeer) -> list[bytes]:
        """Both re-establish; returns what came again for the wallet, which the peer has heard."""
        question = await self.begin(wallet, peer)
        await wallet.answer(question, self.wallet.reconnect())
        return await self.resume(wallet)

    async def begin(self, wallet: RawWallet, peer: ScriptedPeer) -> dict[str, Any]:
        """A new connection, up to the question for the wallet's record."""
        self.session_id, self.connection = await wallet.open_session(peer, commitments=True)
        self.peer.disconnect()
        self.heard = 0
        return await question_of(wallet, "reestablish")

    async def resume(self, wallet: RawWallet) -> list[bytes]:
        says = await self.connection.receive()
        assert decode(says) == reestablish_of(self.wallet.snapshot, self.role)
        theirs = self.peer.reconnect()
        repeated = self.peer.hear(says)
        self.spoken = [theirs, *repeated]
        await self.connection.send(theirs, *repeated, PING)
        again = await self.until_pong()
        while (await wallet.event_of("message"))["message"] != theirs.hex():
            pass
        # Told like any message: a wallet that has something to say needs not wait for a question.
        self.wallet.hear(Fence(ours=0, theirs=0, heard=0, said=0), [theirs])
        return again

    async def until_pong(self) -> list[bytes]:
        """What the peer gets before the relay has dealt with a `PING` of its own."""
        heard: list[bytes] = []
        while (raw := await self.connection.receive())[:2] != PONG:
            heard.append(raw)
            if not isinstance(decode(raw), ChannelReady):
                self.peer.hear(raw)
        return heard

    def hear_one(self, raw: bytes) -> None:
        """The peer takes a message of the wallet's."""
        self.peer.hear(raw)
        self.heard += 1

    async def quiet(self) -> None:
        """Assert that nothing has left for the peer."""
        await self.connection.send(PING)
        assert (raw := await self.connection.receive())[:2] == PONG, raw

    # ---- the peer's ----

    def say(self, *messages: Message) -> list[bytes]:
        words = [self.peer.say(message) for message in messages]
        self.spoken += words
        return words

    async def send(self, *messages: Message) -> None:
        """The peer says this, in one piece."""
        await self.connection.send(*self.say(*messages))

    async def hear(self, *names: str) -> list[bytes]:
        """The peer gets just these."""
        heard = []
        for name in names:
            raw = await self.connection.receive()
            assert name_of(int.from_bytes(raw[:2], "big")) == name
            self.hear_one(raw)
            heard.append(raw)
        return heard

    def fulfil(self, mover: Mover, htlc_id: int, preimage: bytes) -> UpdateFulfillHtlc:
        return UpdateFulfillHtlc(channel_id=self.channel_id, id=htlc_id, payment_preimage=preimage)

    # ---- the wallet's ----

    def take(self, question: dict[str, Any], *messages: Message) -> dict[str, Any]:
        """The answer: what the question is owed, then these, and a signature."""
        fence = Fence(**question["fence"])
        self.wallet.hear(fence, [bytes.fromhex(raw) for raw in question["messages"]])
        self.wallet.say(*messages)
        self.wallet.commit()
        heard, words = self.wallet.since(fence)
        return {"heard": heard, "messages": [raw.hex() for raw in words]}

    async def answer(self, wallet: RawWallet, *messages: Message) -> dict[str, Any]:
        """Take the next question, and answer it so."""
        question = await question_of(wallet, "commitment")
        answer = self.take(question, *messages)
        await wallet.answer(question, answer)
        return question

    async def update(self, wallet: RawWallet, *messages: Message) -> None:
        """The wallet says this of its own accord, and signs it."""
        said = len(self.wallet.said)
        self.wallet.say(*messages)
        self.wallet.commit()
        await self.ask_for(wallet, said)

    async def ask_for(self, wallet: RawWallet, first: int, **changes: Any) -> None:
        """`update_channel` with the wallet's messages from this one on."""
        params = {
            "session_id": self.session_id,
            "channel_id": self.channel_id.hex(),
            "heard": self.wallet.heard,
            "said": first,
            "messages": [raw.hex() for raw in self.wallet.said[first:]],
        }
        await wallet.call("update_channel", **{**params, **changes})

    # ---- whole dances ----

    async def settle(self, wallet: RawWallet) -> None:
        """Until nobody owes the other a `revoke_and_ack` or a signature."""
        while True:
            unheard = self.spoken[self.wallet.heard :]
            if any(isinstance(decode(raw), CommitmentSigned | RevokeAndAck) for raw in unheard):
                await self.answer(wallet)
                while self.wallet.said[self.heard :]:
                    raw = await self.connection.receive()
                    assert raw == self.wallet.said[self.heard]
                    self.hear_one(raw)
            elif self.peer.snapshot.owes_revocation:
                await self.send(self.peer.revoke_and_ack())
            elif self.peer.snapshot.may_commit:
                await self.send(self.peer.commitment_signed())
            else:
                return

    async def receive_payment(
        self, wallet: RawWallet, amount: int, preimage: bytes, payment_hash: bytes
    ) -> None:
        htlc_id = self.peer.snapshot.ours.next_htlc_id
        await self.send(self.peer.add(amount, payment_hash))
        await self.send(self.peer.commitment_signed())
        await self.answer(wallet)
        await self.hear("revoke_and_ack", "commitment_signed")
        await self.send(self.peer.revoke_and_ack())
        await self.answer(wallet, self.fulfil(self.wallet.mover, htlc_id, preimage))
        await self.hear("update_fulfill_htlc", "commitment_signed")
        raws = [*self.say(self.peer.revoke_and_ack()), *self.say(self.peer.commitment_signed())]
        await self.connection.send(*raws)
        await self.answer(wallet)
        await self.hear("revoke_and_ack")


async def question_of(wallet: RawWallet, kind: str) -> dict[str, Any]:
    """The next question, which has to be of this kind; what else the wallet is told is skipped."""
    while True:
        body = await wallet.event_body()
        if body["method"] == "delegate":
            assert body["params"]["kind"] == kind, body
            params: dict[str, Any] = body["params"]
            return params
