"""What is remembered of places is bounded."""

import pytest

from lightning_proxy.chain.steady import Place, Places


def test_the_place_not_asked_for_longest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Places, "_MOST", 3)
    places = Places()
    for number in range(3):
        places.set(bytes([number]), Place(b"block", number))
    assert places.get(b"\x00") == Place(b"block", 0)
    places.set(b"\x03", Place(b"block", 3))
    found = [places.get(bytes([number])) is not None for number in range(4)]
    assert found == [True, False, True, True]
