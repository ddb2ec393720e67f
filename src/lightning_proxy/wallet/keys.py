"""Every secret of a wallet, derived from one seed; none of them leaves by accident."""

import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NoReturn, Self

from coincurve import PrivateKey
from coincurve.utils import GROUP_ORDER_INT
from Crypto.Hash import SHA256
from Crypto.Protocol.KDF import HKDF

from lightning_proxy.bolt.derivation import FIRST_COMMITMENT_INDEX, per_commitment_secret
from lightning_proxy.bolt.keys import sign_message
from lightning_proxy.rpc import Authenticate, authentication_text
from lightning_proxy.transport.handshake import Initiator
from lightning_proxy.wallet.keyfile import SEED_SIZE

_SALT: Final = b"lightning-proxy wallet v1"
# Sixteen bytes more than the group order has make the reduction's bias too small to matter.
_WIDE: Final = 48
_SALT_SIZE: Final = 32
#: It signs nothing but what spends `to_remote` (BOLT #3), whichever channel that is of.
_UNSALTED: Final = frozenset({"payment_basepoint_secret"})


class _Secret:
    """Refuses the ways by which secrets end in places where nobody looks for them."""

    __slots__ = ()

    def __reduce_ex__(self, _: object) -> NoReturn:
        raise TypeError("a wallet's keys are neither pickled nor copied")


@dataclass(frozen=True, slots=True)
class ChannelPoints:
    """The public side of a channel's secrets, 33 bytes each, by their names in BOLT #2."""

    funding_pubkey: bytes
    revocation_basepoint: bytes
    payment_basepoint: bytes
    delayed_payment_basepoint: bytes
    htlc_basepoint: bytes
    first_per_commitment_point: bytes


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class ChannelSecrets(_Secret):
    """One channel's secrets, 32 bytes each."""

    funding_secret: bytes
    revocation_basepoint_secret: bytes
    payment_basepoint_secret: bytes
    delayed_payment_basepoint_secret: bytes
    htlc_basepoint_secret: bytes
    per_commitment_seed: bytes

    def points(self) -> ChannelPoints:
        """What the peer may know."""
        return ChannelPoints(
            funding_pubkey=_point(self.funding_secret),
            revocation_basepoint=_point(self.revocation_basepoint_secret),
            payment_basepoint=_point(self.payment_basepoint_secret),
            delayed_payment_basepoint=_point(self.delayed_payment_basepoint_secret),
            htlc_basepoint=_point(self.htlc_basepoint_secret),
            first_per_commitment_point=self.per_commitment_point(0),
        )

    def per_commitment_point(self, commitment_number: int) -> bytes:
        """The point (33 bytes) of this commitment, counted from 0."""
        return _point(
            per_commitment_secret(
                self.per_commitment_seed, FIRST_COMMITMENT_INDEX - commitment_number
            )
        )


class WalletKeys(_Secret):
    """A node's key and its channels' secrets, all from `seed` (32 bytes).

    A channel's secrets depend on the seed, its index and its salt, which is in the wallet's record
    alone: a copy of the record that goes on from an older state never comes upon the same again.
    Only what the peer pays out to us is for a key of the seed's and the index's, so that the loss
    of the record costs none of it. Raises `ValueError` for a seed of another length.
    """

    __slots__ = ("_node_secret", "_seed", "node_id")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_SIZE:
            raise ValueError(f"a seed has {SEED_SIZE} bytes, not {len(seed)}")
        self._seed = bytes(seed)
        self._node_secret = self._derive_scalar("node")
        #: The node's public key, 33 bytes.
        self.node_id = _point(self._node_secret)

    @classmethod
    def generate(cls) -> Self:
        """Fresh keys, from the operating system's randomness."""
        return cls(secrets.token_bytes(SEED_SIZE))

    def __repr__(self) -> str:
        return f"WalletKeys(node_id={self.node_id.hex()})"

    def sign_message(self, text: str) -> str:
        """Lightning's `signmessage` by the node key, in zbase32."""
        return sign_message(self._node_secret, text)

    def authentication(self, origin: str, challenge: str) -> Authenticate:
        """What proves the node key to the relay of this origin."""
        signature = self.sign_message(authentication_text(origin, challenge))
        return Authenticate(self.node_id.hex(), signature)

    def initiator(self, remote_node_id: bytes) -> Initiator:
        """A fresh BOLT #8 handshake with this node; raises `ValueError` for an id that is none."""
        return Initiator(self._node_secret, remote_node_id)

    def fresh_salt(self) -> bytes:
        """For one new channel, 32 bytes; to be stored before anything that comes of it is said."""
        return secrets.token_bytes(_SALT_SIZE)

    def channel(self, index: int, salt: bytes | None = None) -> ChannelSecrets:
        """The secrets of the channel with this index, from 0; those of old have no salt."""
        salted = f"channel/{index}" if salt is None else f"channel/{index}/salt/{salt.hex()}"
        return ChannelSecrets(
            **{
                name: self._derive_scalar(
                    f"channel/{index}/{name}" if name in _UNSALTED else f"{salted}/{name}"
                )
                for name in ChannelSecrets.__slots__
            }
        )

    def private_keys(
        self, channels: Iterable[int] = (), salt: bytes | None = None
    ) -> Iterator[tuple[str, bytes]]:
        """Every secret of the wallet and of these channels, which have this salt, named.

        For whoever stores the seed, and for the proof that none of them crosses the relay.
        """
        yield "seed", self._seed
        yield "node_secret", self._node_secret
        for index in channels:
            channel = self.channel(index, salt)
            for name in ChannelSecrets.__slots__:
                yield f"channel {index}: {name}", getattr(channel, name)
            first = per_commitment_secret(channel.per_commitment_seed, FIRST_COMMITMENT_INDEX)
            yield f"channel {index}: first per_commitment_secret", first

    def _derive_scalar(self, label: str) -> bytes:
        """HKDF-SHA256 (RFC 5869) for this label, reduced to a valid secret key."""
        wide = HKDF(self._seed, _WIDE, _SALT, SHA256, context=label.encode())
        scalar = int.from_bytes(wide, "big") % (GROUP_ORDER_INT - 1) + 1
        return scalar.to_bytes(32, "big")


def _point(secret: bytes) -> bytes:
    return PrivateKey(secret).public_key.format()
