"""What an operator may set, and what contradicts itself."""

from typing import Any

import pytest

from lightning_proxy.api import ApiSettings, SettingsError

TOKEN = "sixteen-characters-or-more"


def test_on_loopback_the_default_is_open() -> None:
    for host in ("127.0.0.1", "127.0.0.9", "::1", "localhost"):
        assert ApiSettings(host=host).checked().access == "open"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"host": "0.0.0.0"}, "who may use it"),
        ({"host": "::"}, "who may use it"),
        ({"host": "relay.example"}, "who may use it"),
        ({"host": "0.0.0.0", "access": "open"}, "anybody on the network"),
        ({"access": "token"}, "at least one token"),
        ({"access": "allowlist"}, "at least one node id"),
        ({"host": "0.0.0.0", "access": "token", "tokens": [TOKEN]}, "set origins"),
    ],
)
def test_contradictions(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        ApiSettings(**settings).checked()


def test_open_to_the_world_has_to_be_said() -> None:
    settings = ApiSettings(
        host="0.0.0.0", access="open", open_to_the_world=True, origins=["https://relay.example"]
    )
    assert settings.checked() == settings


def test_origins() -> None:
    assert ApiSettings().origins_on(3000) == {
        "http://127.0.0.1:3000",
        "http://localhost:3000",
        "http://[::1]:3000",
    }
    assert "http://127.0.0.2:80" not in ApiSettings(host="127.0.0.2").origins_on(80)
    assert "http://127.0.0.2" in ApiSettings(host="127.0.0.2").origins_on(80)
    chosen = ApiSettings(origins=["WSS://Relay.Example:443/", "http://relay.example:8080"])
    assert chosen.origins_on(1) == {"https://relay.example", "http://relay.example:8080"}
    with pytest.raises(SettingsError, match="is no relay URL"):
        ApiSettings(origins=["relay.example"]).origins_on(1)


def test_a_token_shows_nowhere() -> None:
    assert TOKEN not in repr(ApiSettings(access="token", tokens=[TOKEN]))
