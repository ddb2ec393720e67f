"""What messages of the signing channel are made of: ids, keys, scripts, each with its bounds."""

from typing import Annotated

from msgspec import Meta

from lightning_proxy.rpc.frames import MAX_SENTENCE
from lightning_proxy.rpc.integers import MAX_SAFE

# A regular expression's `$` also matches before a final newline; the exact lengths below, and the
# look-ahead where the length is free, leave no room for one. `{2}` would take twice as long.
HEX = r"^(?:[0-9a-f][0-9a-f])*$(?!\n)"


def hex_of(size: int, what: str) -> Meta:
    digits = 2 * size
    return Meta(
        pattern=f"^[0-9a-f]{{{digits}}}$",
        min_length=digits,
        max_length=digits,
        description=f"{what}, hex",
    )


#: A session's or delegation's id: 128 unguessable bits.
Id = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}$", min_length=32, max_length=32)]
NodeId = Annotated[str, hex_of(33, "a node id (compressed public key, 33 bytes)")]
Point = Annotated[str, hex_of(33, "a compressed point, 33 bytes")]
Key = Annotated[str, hex_of(32, "32 bytes")]
Signature = Annotated[str, hex_of(64, "an ECDSA signature as messages carry it, 64 bytes")]
#: Hash and index stand as in `funding_created`; explorers print a transaction's id reversed.
Txid = Annotated[str, hex_of(32, "a transaction's id, its bytes as in Lightning messages")]
#: BOLT 2 has no bound; 400,000 bytes are what Bitcoin's nodes relay.
Transaction = Annotated[
    str,
    Meta(pattern=HEX, min_length=120, max_length=800_000, description="a transaction, hex"),
]
ActOne = Annotated[str, hex_of(50, "BOLT 8 act one, 50 bytes")]
ActTwo = Annotated[str, hex_of(50, "BOLT 8 act two, 50 bytes")]
ActThree = Annotated[str, hex_of(66, "BOLT 8 act three, 66 bytes")]
#: A whole Lightning message with its type, 2 to 65,535 bytes (BOLT #8: the length is 16 bits).
Message = Annotated[
    str,
    Meta(pattern=HEX, min_length=4, max_length=131_070, description="a Lightning message, hex"),
]
Script = Annotated[str, Meta(pattern=HEX, max_length=200, description="a script, hex")]
FeatureBits = Annotated[str, Meta(pattern=HEX, max_length=200, description="a feature map, hex")]
#: "pubkey@host:port"
PeerAddress = Annotated[str, Meta(min_length=66, max_length=400)]

#: What is said in words, for people.
Sentence = Annotated[str, Meta(max_length=MAX_SENTENCE)]
#: Where a notification stands in the wallet's inbox: it only grows.
Position = Annotated[int, Meta(ge=0, le=MAX_SAFE)]

U16 = Annotated[int, Meta(ge=0, le=0xFFFF)]
U32 = Annotated[int, Meta(ge=0, le=0xFFFF_FFFF)]
