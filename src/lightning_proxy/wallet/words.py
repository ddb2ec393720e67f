"""Amounts, ids and times as people read them."""

from datetime import UTC, datetime


def sat(msat: int) -> str:
    """An amount in satoshis, to the last millisatoshi."""
    return f"{msat // 1000:,}.{msat % 1000:03}"


def short(id_: bytes) -> str:
    """Enough of a node's or a channel's id to tell it from others."""
    text = id_.hex()
    return f"{text[:10]}…{text[-6:]}"


def time_of(seconds: float) -> str:
    """Unix seconds as a date."""
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, OSError, ValueError):
        return "at no time"
