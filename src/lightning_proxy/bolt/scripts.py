"""BOLT #3's scripts, of the funding, commitment and HTLC outputs.

"Local" is the owner of the commitment transaction, as in BOLT #3. Keys are 33 bytes; where
`anchors` is asked for, the form of `option_anchors`.
"""

from hashlib import sha256

from btclib.alias import Command
from btclib.hashes import hash160, ripemd160
from btclib.script.script import push_int, serialize


def p2wsh(witness_script: bytes) -> bytes:
    """The `scriptpubkey` (34 bytes) that pays to a witness script."""
    return serialize(["OP_0", sha256(witness_script).digest()])


def p2wpkh(public_key: bytes) -> bytes:
    """The `scriptpubkey` (22 bytes) that pays to a key."""
    return serialize(["OP_0", hash160(public_key)])


def funding_script(funding_pubkey: bytes, other_funding_pubkey: bytes) -> bytes:
    """Both must sign; the order of the two arguments makes no difference."""
    first, second = sorted((funding_pubkey, other_funding_pubkey))
    return serialize(["OP_2", first, second, "OP_2", "OP_CHECKMULTISIG"])


def to_local_script(
    revocationpubkey: bytes, to_self_delay: int, local_delayedpubkey: bytes
) -> bytes:
    """The owner's own money, and what an HTLC transaction pays: the owner's after
    `to_self_delay` blocks, the other's at once when it was revoked.
    """
    return serialize(
        [
            "OP_IF",
            revocationpubkey,
            "OP_ELSE",
            push_int(to_self_delay),
            "OP_CHECKSEQUENCEVERIFY",
            "OP_DROP",
            local_delayedpubkey,
            "OP_ENDIF",
            "OP_CHECKSIG",
        ]
    )


def to_remote_script(remotepubkey: bytes) -> bytes:
    """The other's money under `option_anchors`: after one block, so that only anchors can be spent
    while the commitment is unconfirmed.
    """
    return serialize([remotepubkey, "OP_CHECKSIGVERIFY", "OP_1", "OP_CHECKSEQUENCEVERIFY"])


def anchor_script(funding_pubkey: bytes) -> bytes:
    """Its holder's at once, anybody's after 16 blocks."""
    return serialize(
        [
            funding_pubkey,
            "OP_CHECKSIG",
            "OP_IFDUP",
            "OP_NOTIF",
            "OP_16",
            "OP_CHECKSEQUENCEVERIFY",
            "OP_ENDIF",
        ]
    )


def offered_htlc_script(
    revocationpubkey: bytes,
    local_htlcpubkey: bytes,
    remote_htlcpubkey: bytes,
    payment_hash: bytes,
    *,
    anchors: bool,
) -> bytes:
    """An HTLC that the owner offered: the other's with the preimage, the owner's by the
    HTLC-timeout transaction.
    """
    return serialize(
        [
            *_revocable(revocationpubkey),
            *(remote_htlcpubkey, "OP_SWAP", "OP_SIZE", b"\x20", "OP_EQUAL"),
            "OP_NOTIF",
            *("OP_DROP", "OP_2", "OP_SWAP", local_htlcpubkey, "OP_2", "OP_CHECKMULTISIG"),
            "OP_ELSE",
            *("OP_HASH160", ripemd160(payment_hash), "OP_EQUALVERIFY", "OP_CHECKSIG"),
            "OP_ENDIF",
            *_one_block_later(anchors),
            "OP_ENDIF",
        ]
    )


def received_htlc_script(
    revocationpubkey: bytes,
    local_htlcpubkey: bytes,
    remote_htlcpubkey: bytes,
    payment_hash: bytes,
    cltv_expiry: int,
    *,
    anchors: bool,
) -> bytes:
    """An HTLC that the owner was offered: the owner's by the HTLC-success transaction, the other's
    from the block `cltv_expiry` on.
    """
    return serialize(
        [
            *_revocable(revocationpubkey),
            *(remote_htlcpubkey, "OP_SWAP", "OP_SIZE", b"\x20", "OP_EQUAL"),
            "OP_IF",
            *("OP_HASH160", ripemd160(payment_hash), "OP_EQUALVERIFY"),
            *("OP_2", "OP_SWAP", local_htlcpubkey, "OP_2", "OP_CHECKMULTISIG"),
            "OP_ELSE",
            *("OP_DROP", push_int(cltv_expiry), "OP_CHECKLOCKTIMEVERIFY", "OP_DROP"),
            "OP_CHECKSIG",
            "OP_ENDIF",
            *_one_block_later(anchors),
            "OP_ENDIF",
        ]
    )


def _revocable(revocationpubkey: bytes) -> list[Command]:
    """How both HTLC scripts begin: with the revocation key, at once."""
    return [
        *("OP_DUP", "OP_HASH160", hash160(revocationpubkey), "OP_EQUAL"),
        *("OP_IF", "OP_CHECKSIG", "OP_ELSE"),
    ]


def _one_block_later(anchors: bool) -> list[Command]:
    return ["OP_1", "OP_CHECKSEQUENCEVERIFY", "OP_DROP"] if anchors else []
