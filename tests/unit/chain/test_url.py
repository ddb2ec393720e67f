"""One URL for each kind of source, and what is no such URL."""

from pathlib import Path
from typing import Any

import pytest

from lightning_proxy.chain import SourceURL
from lightning_proxy.chain.url import SourceKind

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    ("url", "kind", "endpoint", "rest"),
    [
        (
            "bitcoind://u:p%40%3A%2F@127.0.0.1:18443",
            SourceKind.BITCOIND,
            "http://127.0.0.1:18443",
            {"user": "u", "password": "p@:/"},
        ),
        (
            "bitcoind+https://u:p@node.example:8332/?cert=/etc/ca%20s.pem",
            SourceKind.BITCOIND,
            "https://node.example:8332",
            {"user": "u", "password": "p", "cert": Path("/etc/ca s.pem")},
        ),
        (
            "bitcoind://[::1]:8332?cookie=/var/lib/bitcoin/.cookie",
            SourceKind.BITCOIND,
            "http://[::1]:8332",
            {"cookie": Path("/var/lib/bitcoin/.cookie")},
        ),
        (
            "btcd://u:p@localhost:8334?cert=rpc.cert",
            SourceKind.BTCD,
            "https://localhost:8334",
            {"user": "u", "password": "p", "cert": Path("rpc.cert")},
        ),
        (
            "btcd+http://u:@localhost:8334",
            SourceKind.BTCD,
            "http://localhost:8334",
            {"user": "u", "password": ""},
        ),
        (
            "esplora+https://esplora.example/api/",
            SourceKind.ESPLORA,
            "https://esplora.example/api",
            {},
        ),
        ("esplora+http://127.0.0.1:3000", SourceKind.ESPLORA, "http://127.0.0.1:3000", {}),
    ],
)
def test_taken_apart(url: str, kind: SourceKind, endpoint: str, rest: dict[str, Any]) -> None:
    assert SourceURL.parse(url) == SourceURL(kind, endpoint, **rest)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "begins with one of bitcoind, bitcoind\\+https, btcd"),
        ("http://u:p@127.0.0.1:1", "begins with one of"),
        ("bitcoind:u:p@127.0.0.1:1", "begins with one of"),
        (f"bitcoind://u:{SECRET}@", "needs a host"),
        (f"bitcoind://u:{SECRET}@:8332", "needs a host"),
        (f"bitcoind://u:{SECRET}@127.0.0.1", "needs a port"),
        (f"bitcoind://u:{SECRET}@127.0.0.1:0x50", "reads bitcoind://host:port"),
        (f"bitcoind://u:{SECRET}@127.0.0.1:70000", "reads"),
        (f"bitcoind://u:{SECRET}@127.0.0.1:8332/wallet/x", "no path"),
        # What stands unescaped in a password makes something else of what follows.
        (f"bitcoind://u:{SECRET}#{SECRET}@127.0.0.1:8332", "reads"),
        (f"bitcoind://u:{SECRET}/{SECRET}@127.0.0.1:8332", "reads"),
        (f"bitcoind://u:{SECRET}[@127.0.0.1:8332", "reads"),
        (f"bitcoind://u:1?{SECRET}={SECRET}@127.0.0.1:8332", "no option but cert, cookie"),
        (f"bitcoind://u:1?{SECRET}@127.0.0.1:8332", "reads"),
        (f"bitcoind://u:1#{SECRET}@127.0.0.1:8332", "escaped"),
        (f"bitcoind://u:{SECRET}@127.0.0.1:8332?certificate=x", "no option but cert, cookie"),
        (f"bitcoind://u:{SECRET}@127.0.0.1:8332?cookie=", "no value"),
        (f"bitcoind://u:{SECRET}@127.0.0.1:8332?cert=/ca.pem", "cert is for https"),
        (f"bitcoind://u:{SECRET}@127.0.0.1:8332?cookie=/c", "a user and a password or a cookie"),
        ("bitcoind://127.0.0.1:8332", "a user and a password or a cookie"),
        ("bitcoind://u@127.0.0.1:8332", "or neither"),
        (f"bitcoind://u%3A:{SECRET}@127.0.0.1:8332", "colon"),
        ("btcd://127.0.0.1:8334?cookie=/c", "no option but cert"),
        ("btcd://127.0.0.1:8334", "needs a user and a password$"),
        ("esplora+http://", "needs a host"),
        ("esplora+http://a b/", "escaped|reads|characters"),
        ("esplora+http://127.0.0.1/a\x1bb", "escaped"),
    ],
)
def test_no_source(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as refused:
        SourceURL.parse(url)
    assert SECRET not in str(refused.value)
    assert refused.value.__cause__ is None


def test_the_password_stays_out_of_sight() -> None:
    url = SourceURL.parse(f"bitcoind://u:{SECRET}@127.0.0.1:8332")
    assert url.password == SECRET
    assert SECRET not in repr(url)
    assert SECRET not in str(url)
