import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_proxy.bolt.derivation import FIRST_COMMITMENT_INDEX, per_commitment_secret
from lightning_proxy.bolt.errors import RequirementError
from lightning_proxy.bolt.secrets_store import SecretsStore

SEED = bytes(range(32))
ENTRY = 6 + 32
SEEDS = st.binary(min_size=32, max_size=32)
INDICES = st.one_of(
    st.integers(0, FIRST_COMMITMENT_INDEX),
    # Where many slots change at once.
    st.builds(lambda bit, offset: (1 << bit) + offset, st.integers(5, 47), st.integers(-5, 5)),
    st.integers(0, 40),
)


def insert(store: SecretsStore, seed: bytes, count: int) -> None:
    for _ in range(count):
        store.insert(store.next_index, per_commitment_secret(seed, store.next_index))


def store_down_to(seed: bytes, lowest: int) -> SecretsStore:
    """The store as it is after all secrets from the first down to `lowest`, without making them.

    Of all indices from `lowest` up, each slot holds the least that ends in as many zeros.
    """
    latest: dict[int, int] = {}
    for bits in range(49):
        # Of three neighbours that end in so many zeros or more, at least one ends in no more and
        # isn't below.
        for step in range(3):
            index = (lowest >> bits) + step << bits
            if lowest <= index <= FIRST_COMMITMENT_INDEX:
                zeros = f"{index:048b}"[::-1].find("1") if index else 48
                latest[zeros] = min(index, latest.get(zeros, index))
    return SecretsStore.from_bytes(
        b"".join(
            latest[zeros].to_bytes(6, "big") + per_commitment_secret(seed, latest[zeros])
            for zeros in sorted(latest)
        )
    )


@given(seed=SEEDS, count=st.integers(0, 200))
def test_every_received_secret_comes_back(seed: bytes, count: int) -> None:
    store = SecretsStore()
    insert(store, seed, count)
    last = FIRST_COMMITMENT_INDEX - count
    assert store.next_index == last
    for index in range(last + 1, FIRST_COMMITMENT_INDEX + 1):
        assert store.secret(index) == per_commitment_secret(seed, index)
    with pytest.raises(KeyError):
        store.secret(last)


@given(count=st.integers(0, 200))
def test_the_shortcut_of_these_tests_gives_what_inserting_gives(count: int) -> None:
    store = SecretsStore()
    insert(store, SEED, count)
    shortcut = store_down_to(SEED, FIRST_COMMITMENT_INDEX + 1 - count)
    assert shortcut.to_bytes() == store.to_bytes()


@given(seed=SEEDS, lowest=INDICES, data=st.data())
def test_it_works_all_the_way_down(seed: bytes, lowest: int, data: st.DataObject) -> None:
    store = store_down_to(seed, lowest)
    insert(store, seed, min(20, lowest))
    assert len(store.to_bytes()) <= 49 * ENTRY
    older = data.draw(st.integers(store.next_index + 1, FIRST_COMMITMENT_INDEX))
    assert store.secret(older) == per_commitment_secret(seed, older)
    with pytest.raises(KeyError):
        store.secret(store.next_index)


@given(
    seed=SEEDS,
    lowest=st.integers(2, FIRST_COMMITMENT_INDEX + 1),
    byte=st.integers(0, 31),
    bit=st.integers(0, 7),
)
def test_a_wrong_secret_is_refused_at_once_or_shows_with_the_next(
    seed: bytes, lowest: int, byte: int, bit: int
) -> None:
    store = store_down_to(seed, lowest)
    index = store.next_index
    wrong = bytearray(per_commitment_secret(seed, index))
    wrong[byte] ^= 1 << bit
    before = store.to_bytes()
    if index % 2:
        # Nothing follows from a secret with an odd index, so this can't show yet.
        store.insert(index, bytes(wrong))
        before = store.to_bytes()
        index = store.next_index
        wrong[:] = per_commitment_secret(seed, index)
    with pytest.raises(RequirementError, match="don't follow"):
        store.insert(index, bytes(wrong))
    assert store.to_bytes() == before
    assert store.next_index == index


def test_the_last_secret_is_the_seed() -> None:
    store = store_down_to(SEED, 1)
    store.insert(0, SEED)
    assert store.next_index == -1
    assert len(store.to_bytes()) == 49 * ENTRY
    assert store.secret(0) == SEED
    assert store.secret(12_345) == per_commitment_secret(SEED, 12_345)
    with pytest.raises(ValueError, match="next secret"):
        store.insert(-1, SEED)


@pytest.mark.parametrize("offset", [-1, 1, 2])
def test_secrets_come_in_order_and_once(offset: int) -> None:
    store = SecretsStore()
    insert(store, SEED, 3)
    index = store.next_index + offset
    with pytest.raises(ValueError, match="next secret"):
        store.insert(index, per_commitment_secret(SEED, index))


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_secret_has_32_bytes(size: int) -> None:
    store = SecretsStore()
    with pytest.raises(RequirementError, match="32 bytes"):
        store.insert(store.next_index, bytes(size))
    assert store.next_index == FIRST_COMMITMENT_INDEX


@pytest.mark.parametrize("index", [-1, -(1 << 48), 1 << 48, (1 << 48) + 1])
def test_an_index_out_of_range_was_never_received(index: int) -> None:
    store = store_down_to(SEED, 1)
    store.insert(0, SEED)
    with pytest.raises(KeyError):
        store.secret(index)


@given(lowest=INDICES)
def test_stored_and_read_again(lowest: int) -> None:
    store = store_down_to(SEED, lowest)
    again = SecretsStore.from_bytes(store.to_bytes())
    assert again.to_bytes() == store.to_bytes()
    assert again.next_index == lowest - 1


def test_what_was_never_stored_is_not_read() -> None:
    store = SecretsStore()
    insert(store, SEED, 12)
    data = store.to_bytes()
    assert len(data) == 4 * ENTRY
    for broken in (
        data[:-1],
        data + b"\0",
        data[ENTRY:],
        data + data[:ENTRY],
        data[ENTRY : 2 * ENTRY] + data[:ENTRY] + data[2 * ENTRY :],
        bytes(49 * ENTRY),
        bytes(50 * ENTRY),
        b"\xff" * ENTRY * 2,
    ):
        with pytest.raises(ValueError, match="no stored secrets"):
            SecretsStore.from_bytes(broken)


def test_no_secret_in_its_repr() -> None:
    store = SecretsStore()
    insert(store, SEED, 5)
    assert repr(store) == f"SecretsStore(next_index={FIRST_COMMITMENT_INDEX - 5})"
