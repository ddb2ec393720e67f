"""Room that many share: who holds most gives way."""

import random

from lightning_proxy.relay.room import Room


def test_the_largest_pays_to_an_eighth() -> None:
    room = Room[int](each=1 << 20, together=0)
    held = dict.fromkeys(range(50), 0)
    numbers = random.Random(14)
    for _ in range(5000):
        holder = numbers.randrange(50)
        amount = numbers.choice((0, numbers.randrange(1 << numbers.randrange(1, 20))))
        room.change(holder, held[holder], amount)
        held[holder] = amount
        assert room.used == sum(held.values())
        payer = room.pays()
        if payer is None:
            assert not any(held.values())
        else:
            assert held[payer] * 9 >= max(held.values()) * 8


def test_nobody_pays_while_there_is_room() -> None:
    room = Room[str](each=10, together=10)
    room.change("a", 0, 10)
    assert room.pays() is None
    room.change("b", 0, 1)
    assert room.pays() == "a"
