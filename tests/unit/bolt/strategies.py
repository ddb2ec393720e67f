"""Hypothesis strategies for every message, made from what its class declares."""

from typing import Any

from hypothesis import strategies as st

from lightning_proxy.bolt import codec
from lightning_proxy.bolt.messages import MESSAGES, Message
from lightning_proxy.bolt.messages.base import Structure

_LARGE = 100


def fixed_bytes(size: int) -> st.SearchStrategy[bytes]:
    if size <= _LARGE:
        return st.binary(min_size=size, max_size=size)
    return st.binary(min_size=1, max_size=_LARGE).map(lambda seed: (seed * size)[:size])


def values_of(kind: codec.Codec[Any]) -> st.SearchStrategy[Any]:  # noqa: PLR0911 - one a codec
    """What a codec can carry."""
    match kind:
        case codec.Integer():
            return st.integers(kind.minimum, kind.maximum)
        case codec.TruncatedInteger():
            return st.integers(0, kind.maximum)
        case codec.BigSize():
            return st.integers(0, 2**64 - 1)
        case codec.CompressedPoint():
            return st.tuples(st.sampled_from([b"\x02", b"\x03"]), fixed_bytes(32)).map(b"".join)
        case codec.FixedBytes():
            return fixed_bytes(kind.size)
        case codec.LengthPrefixed() | codec.Remainder():
            return st.binary(max_size=_LARGE)
        case codec.Counted() | codec.Repeated():
            return st.lists(values_of(kind.item), max_size=3).map(tuple)
        case codec.Flag():
            return st.just(True)
        case Structure():
            return st.builds(
                kind.cls, **{name: values_of(field) for name, field in kind.fields.items()}
            )
    raise TypeError(f"no strategy for {kind}")


def messages_of(cls: type[Message], *, unknown: bool = True) -> st.SearchStrategy[Message]:
    """Messages of a class; `unknown` lets them have unknown odd TLV records."""
    known = {record.type for record in cls.LAYOUT.namespace.records.values()}
    odd = st.integers(0, 2**63 - 1).map(lambda half: 2 * half + 1)
    records = st.dictionaries(
        st.one_of(st.integers(0, 9).map(lambda half: 2 * half + 1), odd).filter(
            lambda type_: type_ not in known
        ),
        st.binary(max_size=300),
        max_size=3 if unknown else 0,
    )
    return st.builds(
        cls,
        unknown_tlvs=records.map(lambda found: tuple(sorted(found.items()))),
        **{name: values_of(kind) for name, kind in cls.LAYOUT.fields.items()},
        **{
            name: st.none() | values_of(record.codec)
            for name, record in cls.LAYOUT.namespace.records.items()
        },
    )


def any_message() -> st.SearchStrategy[Message]:
    return st.sampled_from(list(MESSAGES.values())).flatmap(messages_of)
