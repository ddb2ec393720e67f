"""A wallet's signer, asked step by step as a relay asks, with the peer's side of each channel."""

import itertools
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self, TypeVar

import msgspec
from btclib.script.witness import Witness
from btclib.tx import OutPoint, Tx, TxIn, TxOut
from btclib_wallet.psbt import Psbt

from lightning_proxy import rpc
from lightning_proxy.bolt.channel import Channel
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.features import DEFAULT_FEATURES
from lightning_proxy.bolt.messages import FundingCreated, FundingSigned
from lightning_proxy.bolt.opening import channel_id_of
from lightning_proxy.bolt.scripts import p2wsh
from lightning_proxy.relay.questions import (
    ChannelKeysQuestion,
    ChannelReadyQuestion,
    FundingCreatedQuestion,
    FundingSignedQuestion,
    Question,
    ReestablishQuestion,
)
from lightning_proxy.rpc import Delegate, DelegationKind, FundingSeen
from lightning_proxy.wallet.confirmations import OwnChain
from lightning_proxy.wallet.funding import FundingWanted
from lightning_proxy.wallet.keys import WalletKeys
from lightning_proxy.wallet.offer import Offer, offer_channel
from lightning_proxy.wallet.policy import Policy
from lightning_proxy.wallet.record import Record, StoredChannel
from lightning_proxy.wallet.request import read_request
from lightning_proxy.wallet.signer import KeySigner, ask
from tests.support.opening import Side
from tests.unit.wallet.samples import PEER, SEED, SESSION_ID

KEYS = WalletKeys(SEED)
POLICY = Policy(chains=("regtest",))
#: What the relay says of a funding transaction, where nothing else is said.
CONFIRMED = FundingSeen(6, 1 << 40)
ANYBODY = b"\x51"  # OP_TRUE

A = TypeVar("A", bound=msgspec.Struct)

_QUESTIONS: Mapping[DelegationKind, type[Question]] = MappingProxyType(
    {
        question.kind: question
        for question in (
            ChannelKeysQuestion,
            FundingCreatedQuestion,
            FundingSignedQuestion,
            ChannelReadyQuestion,
            ReestablishQuestion,
        )
    }
)


class SigningWallet:
    """A signer and its record, which `restart` reopens as another process would."""

    def __init__(
        self, path: Path, *, policy: Policy = POLICY, chain: OwnChain | None = None
    ) -> None:
        self.path = path
        self.policy = policy
        self.chain = chain
        self.funder: Funds | None = Funds()
        self._numbers = itertools.count(1)
        if not path.exists():
            Record.create(path, KEYS.node_id)
        self._open()

    def _open(self) -> None:
        self.record = Record(self.path, KEYS.node_id)
        self.signer = KeySigner(
            KEYS, self.policy, self.record, chain=self.chain, funder=self.funder
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.record.close()

    def restart(self, meanwhile: Callable[[], object] = lambda: None, **changes: Any) -> None:
        """As the next process: nothing but the file is left. `changes` are its attributes."""
        self.record.close()
        meanwhile()
        for name, value in changes.items():
            setattr(self, name, value)
        self._open()

    def delegate(
        self,
        kind: DelegationKind,
        channel_id: bytes,
        *messages: bytes,
        number: int | None = None,
        **changes: Any,
    ) -> Delegate:
        """An envelope, with an id of its own unless a number is given."""
        now = time.time()
        fields: dict[str, Any] = {
            "id": f"{number or 1000 + next(self._numbers):032x}",
            "session_id": SESSION_ID,
            "peer": PEER.hex(),
            "channel_id": channel_id.hex(),
            "kind": kind,
            "sequence": 1,
            "created": now,
            "deadline": now + 60,
            "messages": [message.hex() for message in messages],
        }
        return Delegate(**{**fields, **changes})

    async def ask(
        self, kind: DelegationKind, channel_id: bytes, *messages: bytes, **options: Any
    ) -> Any:
        """The signer's answer; raises `Refusal`."""
        return await self.put(self.delegate(kind, channel_id, *messages, **options))

    async def put(self, delegate: Delegate) -> Any:
        """The same for an envelope."""
        return await ask(self.signer, read_request(delegate))

    async def offer(self, funding_sat: int = 1_000_000, push_msat: int = 0, **wish: Any) -> bytes:
        """A fresh raw `open_channel` of this wallet's."""
        message = await offer_channel(
            Offer(PEER, funding_sat, push_msat, **wish),
            chain="regtest",
            features=DEFAULT_FEATURES,
            keys=KEYS,
            policy=self.policy,
            record=self.record,
            source=None if self.chain is None else self.chain.source,
        )
        return message.encode()

    async def stored(self) -> StoredChannel:
        """The latest channel in the record."""
        return (await self.record.channels())[-1]


class Funds:
    """An on-chain wallet that pays at once, out of an output that anybody could spend."""

    def __init__(self) -> None:
        self.asked: list[FundingWanted] = []

    async def fund(self, wanted: FundingWanted) -> bytes:
        self.asked.append(wanted)
        return psbt(TxOut(wanted.amount_sat, wanted.scriptpubkey)).serialize()


def psbt(*outputs: TxOut, fee: int = 1000, tag: int = 7) -> Psbt:
    """A complete PSBT that pays these outputs."""
    tx_in = TxIn(OutPoint(bytes([tag] * 32), 0), b"", 0xFFFFFFFD)
    made = Psbt.from_tx(Tx(2, 0, [tx_in], outputs))
    made.inputs[0].witness_utxo = TxOut(sum(out.value for out in outputs) + fee, p2wsh(ANYBODY))
    made.inputs[0].final_script_witness = Witness([ANYBODY])
    return made


class Opening:
    """One channel, with the peer's side and the relay's copy of it.

    `wallet_role` is the wallet's. Each step asks the wallet and hands what follows to the peer.
    """

    def __init__(self, wallet: SigningWallet, wallet_role: Role = Role.ACCEPTER) -> None:
        self.wallet = wallet
        self.peer = Side(wallet_role.other)
        self.relay = Channel(wallet_role, DEFAULT_FEATURES)

    @property
    def temporary_id(self) -> bytes:
        return self.relay.temporary_channel_id

    @property
    def channel_id(self) -> bytes:
        return self.peer.channel.channel_id

    def settle(self, kind: DelegationKind, answer: msgspec.Struct) -> bytes:
        """The message that the relay makes of an answer, when its own copy allows it."""
        (raw,) = _QUESTIONS[kind](self.relay).settle(msgspec.Raw(msgspec.json.encode(answer)))
        return raw

    def peer_says(self, raw: bytes) -> bytes:
        self.relay.receive(raw)
        return raw

    # ---- the peer opens ----

    async def accept(self, **changes: Any) -> rpc.ChannelKeys:
        raw = self.peer_says(self.peer.say(self.peer.open_channel(**changes)))
        answer: rpc.ChannelKeys = await self.wallet.ask(
            DelegationKind.CHANNEL_KEYS, self.temporary_id, raw
        )
        self.peer.hear(self.settle(DelegationKind.CHANNEL_KEYS, answer))
        return answer

    async def sign(self, txid: bytes | None = None) -> rpc.FundingSigned:
        self.created = self.peer_says(self.peer.say(self.peer.funding_created(txid)))
        answer: rpc.FundingSigned = await self.wallet.ask(
            DelegationKind.FUNDING_SIGNED, self.temporary_id, self.created
        )
        self.peer.hear(self.settle(DelegationKind.FUNDING_SIGNED, answer))
        return answer

    # ---- the wallet opens ----

    async def offer(self, *amounts: int, **wish: Any) -> None:
        raw = await self.wallet.offer(*amounts, **wish)
        self.relay.send(raw)
        self.peer.hear(raw)

    async def create(self) -> rpc.FundingCreated:
        self.accepted = self.peer_says(self.peer.say(self.peer.accept_channel()))
        answer: rpc.FundingCreated = await self.wallet.ask(
            DelegationKind.FUNDING_CREATED, self.temporary_id, self.accepted
        )
        self.peer.hear(self.settle(DelegationKind.FUNDING_CREATED, answer))
        return answer

    async def release(self) -> rpc.FundingTransaction:
        self.signed = self.peer_says(self.peer.say(self.peer.funding_signed()))
        answer: rpc.FundingTransaction = await self.wallet.ask(
            DelegationKind.FUNDING_TRANSACTION, self.channel_id, self.signed
        )
        return answer

    # ---- both ----

    async def ready(
        self, *messages: bytes, funding: FundingSeen | None = CONFIRMED
    ) -> rpc.ChannelReady:
        channel = self.relay
        channel.observe(channel.funding_scriptpubkey, channel.open_channel.funding_satoshis, 1000)
        answer: rpc.ChannelReady = await self.wallet.ask(
            DelegationKind.CHANNEL_READY, self.channel_id, *messages, funding=funding
        )
        self.peer.hear(self.settle(DelegationKind.CHANNEL_READY, answer))
        return answer

    def peer_ready(self) -> bytes:
        self.peer.confirm(1000)
        return self.peer_says(self.peer.say(self.peer.channel_ready()))

    async def reestablish(self, *messages: bytes) -> rpc.Reestablish:
        """On a new connection."""
        self.relay.disconnected()
        self.peer.channel.disconnected()
        answer: rpc.Reestablish = await self.wallet.ask(
            DelegationKind.REESTABLISH, self.channel_id, *messages
        )
        self.peer.hear(self.settle(DelegationKind.REESTABLISH, answer))
        return answer

    def another_created(self, txid: bytes) -> FundingCreated:
        """A `funding_created` of a colluding peer's: its signature holds for that outpoint."""
        return self.peer.funding_created(txid)


def final_id(created: FundingCreated) -> bytes:
    return channel_id_of(created.funding_txid, created.funding_output_index)


def signed(answer: rpc.FundingSigned, channel_id: bytes) -> FundingSigned:
    return FundingSigned(channel_id=channel_id, signature=bytes.fromhex(answer.signature))
