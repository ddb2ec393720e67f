"""What both sides said, as only the harness can know it: wallets and peers compare against it."""

import hashlib
from dataclasses import dataclass, field
from typing import Final

from tests.soak.tally import Fault, Tally

#: Types that nobody knows, odd: a peer's numbered message, and a wallet's.
FROM_PEER: Final = b"\x80\x01"
FROM_WALLET: Final = b"\x80\x03"
_ID = slice(2, 18)
_NUMBER = slice(18, 22)
#: Bytes; every so many messages one is long.
_SHORT: Final = 300
_LONG: Final = 20_000
_LONG_EVERY: Final = 64


def numbered(kind: bytes, session_id: str, number: int) -> bytes:
    """The message of this number: every byte of it follows from its place."""
    head = kind + bytes.fromhex(session_id) + number.to_bytes(4, "big")
    noise = hashlib.shake_128(head).digest(3)
    most = _LONG if noise[0] % _LONG_EVERY == 0 else _SHORT
    return head + hashlib.shake_128(head).digest(int.from_bytes(noise[1:], "big") % most)


def session_of(message: bytes) -> str:
    """The session that a numbered message belongs to."""
    return message[_ID].hex()


def number_of(message: bytes) -> int:
    return int.from_bytes(message[_NUMBER], "big")


@dataclass
class Said:
    """Of one session: how many messages its peer sent, and how many of them are on disk."""

    sent: int = 0
    stored: int = 0


@dataclass
class Ledger:
    """Ids of channels are the temporary ones; all of a channel's messages are whole."""

    tally: Tally
    #: By session.
    said: dict[str, Said] = field(default_factory=dict)
    #: Messages (session, number) that a wallet sent when its connection broke: who knows?
    unsure: set[tuple[str, int]] = field(default_factory=set)
    #: Every `open_channel` that a peer sent, by channel.
    offers: dict[bytes, bytes] = field(default_factory=dict)
    #: The `accept_channel` that a wallet's answer makes, by channel; before it is given.
    promised: dict[bytes, bytes] = field(default_factory=dict)
    #: funding_pubkeys of key slots that a wallet left.
    slots: set[bytes] = field(default_factory=set)
    #: The `accept_channel` that the peer got, by channel; and those of them made by a slot.
    accepted: dict[bytes, bytes] = field(default_factory=dict)
    by_slot: set[bytes] = field(default_factory=set)
    #: Every funding_pubkey that a peer got.
    funding_pubkeys: set[bytes] = field(default_factory=set)
    #: Every `channel_reestablish` and `error` that a peer sent: wallets are shown these, too.
    passed_on: set[bytes] = field(default_factory=set)
    #: The wallet's `funding_signed`, by the channel's final id; before it is given.
    signed: dict[bytes, bytes] = field(default_factory=dict)
    #: Final ids of the channels whose `funding_signed` the peer has, by the wallet's node id.
    held: dict[bytes, set[bytes]] = field(default_factory=dict)

    def lost(self, sentence: str, count: int = 1) -> None:
        self.tally.found(Fault.LOST, sentence, count)

    def doubled(self, sentence: str) -> None:
        self.tally.found(Fault.DOUBLED, sentence)

    def reordered(self, sentence: str) -> None:
        self.tally.found(Fault.REORDERED, sentence)

    def wrong(self, sentence: str) -> None:
        self.tally.found(Fault.WRONG, sentence)

    def out_of_place(self, what: str, number: int, expected: int) -> None:
        """A message that is not the one that had to follow."""
        if number > expected:
            self.lost(f"{what}: {number} came instead of {expected}", number - expected)
        else:
            self.reordered(f"{what}: {number} came after {expected - 1}")
