"""Where a setting comes from, and what is said about one that is wrong."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from lightning_proxy.config import (
    Config,
    ConfigError,
    Setting,
    default_file,
    load,
    made_by_kubernetes,
)
from lightning_proxy.rpc import DelegationKind

TOKEN = "a-token-of-nobody-else"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "relay.toml"


def test_defaults() -> None:
    config = load(None, {})
    assert (config.api.host, config.api.port) == ("127.0.0.1", 3000)
    assert config.log.level == "info"
    assert config.relay.deadlines[DelegationKind.CHANNEL_KEYS] == 55.0


def test_flags_win_over_environment_over_file(file: Path) -> None:
    file.write_text("[api]\nport = 1001\nhost = '127.0.0.2'\n[relay]\nping_interval = 7\n")
    environ = {"LIGHTNING_PROXY_API_PORT": "1002", "LIGHTNING_PROXY_RELAY_PING_INTERVAL": "8.5"}
    assert load(file, {}).api.port == 1001
    assert load(file, environ).api.port == 1002
    config = load(file, environ, [Setting("--port", ("api", "port"), 1003)])
    assert config.api.port == 1003
    assert config.relay.ping_interval == 8.5
    assert config.api.host == "127.0.0.2"


def test_the_environment_gives_every_type() -> None:
    environ = {
        "LIGHTNING_PROXY_API_TOKENS": f"{TOKEN}, {TOKEN}-2",
        "LIGHTNING_PROXY_API_ACCESS": "token",
        "LIGHTNING_PROXY_RELAY_DIAL_ALLOW_PRIVATE": "true",
        "LIGHTNING_PROXY_RELAY_DIAL_ALLOW_LOOPBACK": "false",
        "LIGHTNING_PROXY_RELAY_DEADLINES_CHANNEL_KEYS": "12",
        "LIGHTNING_PROXY_LOG_FORMAT": "json",
        "LIGHTNING_PROXY_API_HOST": "",
    }
    config = load(None, environ)
    assert config.api.tokens == [TOKEN, f"{TOKEN}-2"]
    assert config.api.access == "token"
    assert config.relay.dial.allow_private is True
    assert config.relay.dial.allow_loopback is False
    assert config.relay.deadlines[DelegationKind.CHANNEL_KEYS] == 12.0
    assert config.log.format == "json"
    assert config.api.host == "127.0.0.1"


def test_variables_of_other_programs_are_no_settings() -> None:
    names = ["KERNEL", "CONFIG", "RELAY", "TOKEN", "LAB", "WALLET_FILE", "WALLET_PASSPHRASE"]
    assert load(None, {f"LIGHTNING_PROXY_{name}": "x" for name in names}) == load(None, {})


def test_a_list_replaces_the_one_below(file: Path) -> None:
    file.write_text("[relay]\nnetworks = ['bitcoin', 'signet']\n")
    config = load(file, {"LIGHTNING_PROXY_RELAY_NETWORKS": "regtest"})
    assert config.relay.networks == ["regtest"]


def test_an_empty_table_keeps_the_defaults(file: Path) -> None:
    file.write_text("[relay.deadlines]\n")
    assert load(file, {}).relay.deadlines[DelegationKind.CHANNEL_KEYS] == 55.0


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[api]\nprot = 1\n", "api: no such setting: prot"),
        ("[apis]\n", "no such setting: apis"),
        ("[api]\nport = '3000'\n", "api.port: Expected int, got str"),
        ("[api]\nport = 70000\n", "api.port: Expected int <= 65535"),
        ("[relay.dial]\nallow_private = 1\n", "relay.dial.allow_private: Expected true or false"),
        ("[relay.deadlines]\nfunding = 1\n", "relay.deadlines"),
        ("api = 3\n", "api: Expected object, got int"),
        ("[api\n", "is no TOML"),
        ("[relay]\nnetworks = ['litecoin']\n", "relay.networks: 'litecoin' is no chain"),
        ("[relay.dial]\nallow = ['10.0.0.0/99']\n", "relay.dial.allow"),
        ("[api]\norigins = ['relay.example']\n", "api.origins"),
        ("[api]\nweb_origins = ['relay.example']\n", "api.web_origins"),
        ("[api]\nweb_origins = ['null']\n", "api.web_origins"),
        ("[api]\nweb_origins = ['capacitor://']\n", "api.web_origins"),
        ("[api]\nweb_origins = ['capacitor://localhost/path']\n", "api.web_origins"),
    ],
)
def test_a_wrong_file(file: Path, text: str, sentence: str) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(file, {})
    assert sentence in str(caught.value)


@pytest.mark.parametrize("content", [b"\xff\xfe", None])
def test_an_unreadable_file(file: Path, content: bytes | None) -> None:
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"relay\.toml"):
        load(file, {})


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("API_PROT", "1", "did you mean LIGHTNING_PROXY_API_PORT?"),
        ("API_PORT", "many", "LIGHTNING_PROXY_API_PORT: Expected int"),
        ("RELAY_MAX_SESSIONS", "0", "LIGHTNING_PROXY_RELAY_MAX_SESSIONS: Expected int >= 1"),
        ("RELAY_DIAL_ALLOW_PRIVATE", "yes", "Expected true or false"),
        ("LOG_LEVEL", "loud", "LIGHTNING_PROXY_LOG_LEVEL: "),
    ],
)
def test_a_wrong_variable(name: str, value: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, {f"LIGHTNING_PROXY_{name}": value})
    assert sentence in str(caught.value)


def test_a_wrong_flag_is_named() -> None:
    with pytest.raises(ConfigError, match="--port: Expected int <= 65535"):
        load(None, {}, [Setting("--port", ("api", "port"), 99999)])


@pytest.mark.parametrize("secret", ["too-short", "x"])
def test_no_token_is_repeated(file: Path, secret: str) -> None:
    file.write_text(f"[api]\ntokens = ['{secret}']\n")
    flag = Setting("--token", ("api", "tokens"), [secret])
    attempts: list[Callable[[], Config]] = [
        lambda: load(file, {}),
        lambda: load(None, {"LIGHTNING_PROXY_API_TOKENS": secret}),
        lambda: load(None, {}, [flag]),
    ]
    for attempt in attempts:
        with pytest.raises(ConfigError) as caught:
            attempt()
        assert "length >= 16" in str(caught.value)
        assert f"'{secret}'" not in str(caught.value)
        assert caught.value.__cause__ is None


def test_what_is_shown_hides_tokens() -> None:
    config = load(None, {"LIGHTNING_PROXY_API_TOKENS": TOKEN})
    assert config.shown()["api"]["tokens"] == ["(hidden)"]
    assert TOKEN not in repr(config)
    assert TOKEN not in str(config.shown())


SECRET = "x7-secret"


@pytest.mark.parametrize(
    ("path", "value", "shown"),
    [
        (
            ("relay", "chain"),
            f"bitcoind://alice:{SECRET}@127.0.0.1:8332",
            "bitcoind://(hidden)@127.0.0.1:8332",
        ),
        (
            ("relay", "chain"),
            "bitcoind://[::1]:8332?cookie=/bitcoin/.cookie",
            "bitcoind://[::1]:8332?cookie=/bitcoin/.cookie",
        ),
        (
            ("relay", "chain"),
            f"esplora+https://chain.example/{SECRET}/api",
            "esplora+https://chain.example/(hidden)",
        ),
        (
            ("relay", "store"),
            f"postgresql://alice:{SECRET}@db.example:5432/relay?sslmode=require",
            "postgresql://(hidden):(hidden)@db.example:5432/relay?sslmode=require",
        ),
        # What SQLAlchemy takes for a password and `urlsplit` for a query.
        (
            ("relay", "store"),
            f"postgresql://alice:a?{SECRET}@db.example/relay",
            "postgresql://(hidden):(hidden)@db.example/relay",
        ),
        (
            ("relay", "store"),
            f"postgresql:///relay?host=one:5432&host=two:5432&password={SECRET}&sslkey={SECRET}",
            "postgresql:///relay?host=one:5432&host=two:5432&password=(hidden)&sslkey=(hidden)",
        ),
        (
            ("api", "origins"),
            [f"https://alice:{SECRET}@relay.example"],
            ["https://(hidden)@relay.example"],
        ),
        (
            ("relay", "wake", "vapid_subject"),
            f"https://operator.example/me?key={SECRET}",
            "https://operator.example/me?(hidden)",
        ),
    ],
)
def test_what_is_shown_hides_what_urls_hold(
    path: tuple[str, ...], value: object, shown: object
) -> None:
    config = load(None, {}, [Setting("--it", path, value)])
    found: Any = config.shown()
    for name in path:
        found = found[name]
    assert unquoted(found) == shown
    assert SECRET not in str(config.shown())
    assert SECRET not in repr(config)


def unquoted(value: Any) -> Any:
    """SQLAlchemy quotes what it puts into a query."""
    return unquote(value) if isinstance(value, str) else value


def test_the_chains_url_may_stand_in_a_file(tmp_path: Path) -> None:
    url = f"bitcoind://alice:{SECRET}@127.0.0.1:8332"
    secret = tmp_path / "chain"
    secret.write_text(f"{url}\n")
    config = load(None, {"LIGHTNING_PROXY_RELAY_CHAIN_FILE": str(secret)})
    assert config.relay.chain == url
    assert config.shown()["relay"]["chain_file"] == str(secret)
    assert SECRET not in str(config.shown())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "can't be read: No such file"),
        (b"", "has no URL in its first line"),
        (b"\n" + SECRET.encode(), "has no URL in its first line"),
        (b"\xff\xfe", "is no text"),
        (f"gopher://{SECRET}".encode(), "relay.chain: a chain source's URL begins with"),
    ],
)
def test_a_file_that_holds_none(tmp_path: Path, content: bytes | None, words: str) -> None:
    secret = tmp_path / "chain"
    if content is not None:
        secret.write_bytes(content)
    with pytest.raises(ConfigError, match=words) as failure:
        load(None, {"LIGHTNING_PROXY_RELAY_CHAIN_FILE": str(secret)})
    assert SECRET not in str(failure.value)


def test_a_chain_and_its_file_contradict_each_other(file: Path) -> None:
    file.write_text("[relay]\nchain = 'esplora+http://127.0.0.1:1'\nchain_file = 'nowhere'\n")
    with pytest.raises(ConfigError, match="set one of them"):
        load(file, {})


def test_the_default_file_is_read_only_where_it_is(tmp_path: Path) -> None:
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert default_file(environ) is None
    file = tmp_path / "lightning-proxy" / "config.toml"
    file.parent.mkdir()
    file.touch()
    assert default_file(environ) == file


KUBERNETES = {
    "LIGHTNING_PROXY_RELAY_PORT": "tcp://10.96.0.7:3000",
    "LIGHTNING_PROXY_RELAY_SERVICE_HOST": "10.96.0.7",
    "LIGHTNING_PROXY_RELAY_SERVICE_PORT": "3000",
    "LIGHTNING_PROXY_RELAY_SERVICE_PORT_HTTP": "3000",
    "LIGHTNING_PROXY_RELAY_PORT_3000_TCP": "tcp://10.96.0.7:3000",
    "LIGHTNING_PROXY_RELAY_PORT_3000_TCP_PROTO": "tcp",
    "LIGHTNING_PROXY_RELAY_PORT_3000_TCP_PORT": "3000",
    "LIGHTNING_PROXY_RELAY_PORT_3000_TCP_ADDR": "10.96.0.7",
    # A setting's own name.
    "LIGHTNING_PROXY_API_PORT": "tcp://10.96.0.8:3000",
}


def test_what_kubernetes_says_of_a_service_is_no_setting() -> None:
    assert load(None, KUBERNETES) == load(None, {})
    assert sorted(made_by_kubernetes(KUBERNETES)) == sorted(KUBERNETES)
    settings = {"LIGHTNING_PROXY_API_PORT": "3001", "LIGHTNING_PROXY_RELAY_MAX_SESSIONS": "7"}
    assert made_by_kubernetes(settings) == []
    assert load(None, KUBERNETES | settings).api.port == 3001


@pytest.mark.parametrize("name", ["LIGHTNING_PROXY_RELAY_PROT", "LIGHTNING_PROXY_RELAY_HOST"])
def test_what_only_looks_like_it_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="is no setting"):
        load(None, {name: "tcp://10.96.0.7:3000"})
