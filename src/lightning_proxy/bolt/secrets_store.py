"""The secrets by which a peer revoked its commitments: all of them, in the room of 49 (BOLT #3)."""

from hmac import compare_digest
from typing import Final, Self

from lightning_proxy.bolt.derivation import FIRST_COMMITMENT_INDEX, derive_secret
from lightning_proxy.bolt.errors import RequirementError

_INDEX_SIZE: Final = 6
_SECRET_SIZE: Final = 32
_ENTRY_SIZE: Final = _INDEX_SIZE + _SECRET_SIZE
_INDEX_BITS: Final = 48

#: BOLT #2: what `channel_reestablish` has in a secret's place while nothing was revoked.
NO_SECRET: Final = bytes(_SECRET_SIZE)


class SecretsStore:
    """The peer's `per_commitment_secret`s, from index 2^48 - 1 downwards without a gap.

    Slot n keeps the latest secret whose index ends in exactly n zero bits; every secret received
    before follows from one of them.
    """

    __slots__ = ("_slots",)

    def __init__(self) -> None:
        self._slots: list[tuple[int, bytes]] = []

    def __repr__(self) -> str:
        return f"SecretsStore(next_index={self.next_index})"

    @property
    def next_index(self) -> int:
        """The index of the secret to insert next; -1 after the very last."""
        return min((index for index, _ in self._slots), default=FIRST_COMMITMENT_INDEX + 1) - 1

    def insert(self, index: int, secret: bytes) -> None:
        """Keeps the secret (32 bytes) with this index, which must be `next_index`.

        Raises `RequirementError`, and stays as it is, for a secret from which those before it
        don't follow: BOLT #2 fails the channel then. Raises `ValueError` for another index.
        """
        if index != self.next_index or index < 0:
            raise ValueError(f"the next secret's index is {self.next_index}, not {index}")
        if len(secret) != _SECRET_SIZE:
            raise RequirementError("per_commitment_secret", f"it has {_SECRET_SIZE} bytes")
        slot = _slot(index)
        for known_index, known in self._slots[:slot]:
            if not compare_digest(derive_secret(secret, slot, known_index), known):
                raise RequirementError(
                    "per_commitment_secret", "those received before don't follow from it"
                )
        # Without gaps, slot n is reached only after slots 0 to n - 1: this replaces or appends.
        self._slots[slot : slot + 1] = [(index, bytes(secret))]

    def secret(self, index: int) -> bytes:
        """The secret (32 bytes) with this index; raises `KeyError` for one not received."""
        for slot, (known_index, known) in enumerate(self._slots):
            if index >> slot == known_index >> slot:
                return derive_secret(known, slot, index)
        raise KeyError(index)

    def to_bytes(self) -> bytes:
        """All there is to store, at most 1862 bytes: of each slot its index and its secret."""
        return b"".join(
            index.to_bytes(_INDEX_SIZE, "big") + secret for index, secret in self._slots
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises `ValueError` for what `to_bytes` can't have given."""
        if len(data) % _ENTRY_SIZE or len(data) > (_INDEX_BITS + 1) * _ENTRY_SIZE:
            raise ValueError("these are no stored secrets: their length is wrong")
        store = cls()
        for start in range(0, len(data), _ENTRY_SIZE):
            secret_start = start + _INDEX_SIZE
            index = int.from_bytes(data[start:secret_start], "big")
            store._slots.append((index, bytes(data[secret_start : start + _ENTRY_SIZE])))
        indices = [index for index, _ in store._slots]
        if indices != _indices_down_to(min(indices, default=FIRST_COMMITMENT_INDEX + 1)):
            raise ValueError("these are no stored secrets: an index is out of place")
        return store


def _slot(index: int) -> int:
    """How many zero bits this index ends in; 48 for the last index, 0, which is the seed's."""
    return (index & -index).bit_length() - 1 if index else _INDEX_BITS


def _indices_down_to(lowest: int) -> list[int]:
    """The index in each filled slot when `lowest` is the latest."""
    indices = []
    for slot in range(_INDEX_BITS + 1):
        # The least that is no smaller and ends in this many zeros; one with more of them belongs
        # to a later slot.
        index = -(-lowest >> slot) << slot
        if _slot(index) != slot:
            index += 1 << slot
        if index > FIRST_COMMITMENT_INDEX:
            break
        indices.append(index)
    return indices
