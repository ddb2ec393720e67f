"""Finds a secret in bytes, in each form in which it could have been carried or kept."""

import base64
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

#: The bits before a secret in a base64 text shift its characters: three alignments, and how many
#: characters of each depend on what came before.
_BASE64_SHIFTS: Final = ((0, 0), (1, 2), (2, 3))
#: Bytes.
_SHORTEST: Final = 16
_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")


def encodings(secret: bytes) -> dict[str, bytes]:
    """The forms of a secret that are looked for, by name.

    "reversed" are its bytes from last to first, as a little-endian number has them.
    """
    forms: dict[str, bytes] = {}
    for order, data in (("", secret), (" reversed", secret[::-1])):
        forms[f"raw{order}"] = data
        forms[f"hex{order}"] = data.hex().encode()
        forms[f"upper-case hex{order}"] = data.hex().upper().encode()
        for shift, before in _BASE64_SHIFTS:
            text = base64.b64encode(bytes(shift) + data)
            inner = text[before : (shift + len(data)) * 8 // 6]
            forms[f"base64 shifted by {shift}{order}"] = inner
            forms[f"url-safe base64 shifted by {shift}{order}"] = inner.translate(_URL_SAFE)
    return forms


class Scanner:
    """Looks for named secrets; `found` has the forms of each that were there.

    Raises `ValueError` for a secret so short that chance would find it.
    """

    def __init__(self, wanted: Mapping[str, bytes]) -> None:
        for name, secret in wanted.items():
            if len(secret) < _SHORTEST:
                raise ValueError(f"the control or key {name} is too short to be looked for")
        self._forms = {name: encodings(secret) for name, secret in wanted.items()}
        self._overlap = max(len(form) for forms in self._forms.values() for form in forms.values())
        self.found: dict[str, set[str]] = {name: set() for name in wanted}
        self.scanned = 0

    def scan(self, blocks: Iterable[bytes]) -> None:
        """Search one stretch of bytes, which may come in blocks; a match may lie across them."""
        tail = b""
        for block in blocks:
            self.scanned += len(block)
            data = tail + block
            for name, form, wanted in self._missing():
                if wanted in data:
                    self.found[name].add(form)
            tail = data[-self._overlap :]

    def _missing(self) -> Iterator[tuple[str, str, bytes]]:
        for name, forms in self._forms.items():
            for form, wanted in forms.items():
                if form not in self.found[name]:
                    yield name, form, wanted
