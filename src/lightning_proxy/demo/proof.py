"""The proof that no private key crossed the relay: where it was looked for, and what was found."""

from collections.abc import Iterable, Mapping
from typing import Final

from coincurve import PrivateKey
from msgspec import Struct

from lightning_proxy.demo.memory import MemoryUnreadable, private_mappings, stopped
from lightning_proxy.demo.scan import Scanner

#: Each private key that has a public one, and the name of that in the messages that the peer gets.
_PUBLIC: Final = {
    "channel 0: funding_secret": "funding_pubkey",
    "channel 0: revocation_basepoint_secret": "revocation_basepoint",
    "channel 0: payment_basepoint_secret": "payment_basepoint",
    "channel 0: delayed_payment_basepoint_secret": "delayed_payment_basepoint",
    "channel 0: htlc_basepoint_secret": "htlc_basepoint",
    "channel 0: first per_commitment_secret": "first_per_commitment_point",
}
#: Only a channel that becomes ready has this one.
_LATER: Final = {"channel 0: second per_commitment_secret": "second_per_commitment_point"}


class Search(Struct, frozen=True):
    """One place that was searched, in so many bytes.

    `private_keys_found` must be empty; `controls_found`, things known to be there, must not lack
    any of `controls`, or the search itself is worth nothing.
    """

    where: str
    searched_bytes: int
    private_keys_found: list[str]
    controls: list[str]
    controls_found: list[str]

    def failure(self) -> str | None:
        """Why this search proves nothing, or the contrary."""
        if self.private_keys_found:
            return f"{self.where}: found {', '.join(self.private_keys_found)}"
        missing = [name for name in self.controls if name not in self.controls_found]
        if missing:
            return f"{self.where}: the search is blind, it does not find {', '.join(missing)}"
        return None


class Proof(Struct, frozen=True):
    """`private_keys` are names; `not_searched` says where nobody could look, and why."""

    private_keys: list[str]
    searches: list[Search]
    not_searched: list[str]
    holds: bool
    sentence: str


def prove(private_keys: Iterable[str], searches: list[Search], not_searched: list[str]) -> Proof:
    """The whole, from its parts."""
    failures = [failure for search in searches if (failure := search.failure())]
    places = " and ".join(search.where for search in searches)
    sentence = "; ".join(failures) or f"None of the wallet's private keys is in {places}."
    return Proof(list(private_keys), searches, not_searched, not failures, sentence)


def search_streams(
    streams: Iterable[bytes], private_keys: Mapping[str, bytes], controls: Mapping[str, bytes]
) -> Search:
    """Search what crossed between wallet and relay; raises `ValueError` without a control."""
    scanner = _scanner(private_keys, controls)
    for stream in streams:
        scanner.scan([stream])
    return _result("what wallet and relay sent each other", scanner, private_keys, controls)


def search_memory(
    process_id: int, private_keys: Mapping[str, bytes], controls: Mapping[str, bytes]
) -> Search:
    """Search the memory of the running relay, which is held still meanwhile.

    Raises `MemoryUnreadable`, and `ValueError` without a control.
    """
    scanner = _scanner(private_keys, controls)
    try:
        with stopped(process_id):
            for mapping in private_mappings(process_id):
                scanner.scan(mapping)
    except ProcessLookupError:
        raise MemoryUnreadable("the relay is gone") from None
    return _result("the memory of the running relay", scanner, private_keys, controls)


def wrong_keys(
    private_keys: Mapping[str, bytes], node_id: str, fields: Mapping[str, object]
) -> list[str]:
    """The private keys that are not those of the public keys which the peer saw, all in hex.

    `fields` are those of the messages that it got. Looking for keys that nobody uses would prove
    nothing.
    """
    seen = {name: fields.get(public) for name, public in _PUBLIC.items()}
    seen |= {name: fields[public] for name, public in _LATER.items() if public in fields}
    return [
        name
        for name, public in {"node_secret": node_id, **seen}.items()
        if name not in private_keys
        or PrivateKey(private_keys[name]).public_key.format().hex() != public
    ]


def _scanner(private_keys: Mapping[str, bytes], controls: Mapping[str, bytes]) -> Scanner:
    if not controls:
        raise ValueError("a search without a control proves nothing")
    return Scanner({**private_keys, **controls})


def _result(
    where: str,
    scanner: Scanner,
    private_keys: Mapping[str, bytes],
    controls: Mapping[str, bytes],
) -> Search:
    return Search(
        where=where,
        searched_bytes=scanner.scanned,
        private_keys_found=[
            f"{name} ({', '.join(sorted(forms))})"
            for name in private_keys
            if (forms := scanner.found[name])
        ],
        controls=list(controls),
        controls_found=[name for name in controls if scanner.found[name]],
    )
