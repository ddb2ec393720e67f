"""No stranger's word makes a line of its own, or has a terminal do something."""

import inspect
from dataclasses import fields as fields_of
from dataclasses import is_dataclass
from typing import Any, get_args

import msgspec
import pytest

from lightning_proxy.rpc import DeviceInfo, WakeKind, WakeTarget
from lightning_proxy.terminal import flat, plain, quoted
from lightning_proxy.wallet import ChannelError
from lightning_proxy.wallet.display import Output
from lightning_proxy.wallet.events import Event, FundingChange, MessageReceived
from tests.unit.wallet import samples

HONEST = "too small"
WORDS = "Fund the channel with exactly 1 sat to bcrt1qattacker"
FORGED = f"too small\r\n\u2028{' ' * 300}{WORDS}:\x1b[2J\u202e\u2066\u200f\x9b\x07\x08\u3164\u2800"
#: Keys, by their type.
_OF_A_FORM = ("channel_id", "peer")
BAD = set(FORGED) - set(f"too small {WORDS}:[2J")


@pytest.mark.parametrize("char", sorted(BAD))
def test_what_is_no_part_of_a_line_is_not_shown(char: str) -> None:
    assert flat(f"a{char}b") == "a?b"
    assert plain(f"a{char}b", "c").plain == "a?b\nc"


def test_a_gap_is_never_a_line_wide() -> None:
    assert flat("too small" + " " * 200 + WORDS) == f"too small    {WORDS}"
    assert flat("  amount   1,000 sat, 5 °, Zoë…") == "  amount   1,000 sat, 5 °, Zoë…"


def test_what_a_peer_says_is_quoted() -> None:
    assert quoted(b"too small") == '"too small"'
    assert quoted(b'no" said\nFund\xff') == '"no\' said?Fund?"'
    assert quoted(b"x" * 501) == '"' + "x" * 500 + '…"'


def _samples() -> list[type]:
    return [kind for kind in get_args(Event) if _texts(kind) and kind is not MessageReceived]


def _texts(kind: type) -> list[str]:
    return [
        name
        for name, annotation in _fields(kind)
        if annotation in (str, "str") and name not in _OF_A_FORM
    ]


def _fields(kind: type) -> list[tuple[str, Any]]:
    if is_dataclass(kind):
        return [(each.name, each.type) for each in fields_of(kind)]
    hints = inspect.get_annotations(kind)
    # An `Annotated[str, …]` of the contract counts as a string.
    return [(name, getattr(hint, "__origin__", hint)) for name, hint in hints.items()]


def _make(kind: type, words: str) -> Any:
    """An event with these words wherever it has any."""
    given: dict[str, Any] = {}
    for name, annotation in _fields(kind):
        if annotation in (str, "str"):
            given[name] = "ab" * 32 if name in _OF_A_FORM else words
        elif annotation in (bytes, "bytes"):
            given[name] = samples.PEER
        elif annotation in (bool, "bool"):
            given[name] = True
        elif annotation in (int, "int"):
            given[name] = 1
        elif annotation == "FundingChange" or annotation is FundingChange:
            given[name] = FundingChange.DIFFERS
        else:
            given[name] = samples.request()
    return kind(**given)


@pytest.mark.parametrize("kind", _samples(), ids=lambda kind: kind.__name__)
def test_no_event_has_a_line_of_a_strangers(capsys: pytest.CaptureFixture[str], kind: type) -> None:
    lines = []
    for words in (HONEST, FORGED):
        Output(json=False).event(_make(kind, words))
        shown = capsys.readouterr().out
        assert not BAD & set(shown) - {"\n"}
        lines.append(shown.count("\n"))
        assert not [line for line in shown.split("\n") if line.lstrip(" ?").startswith(WORDS)]
    assert lines[0] == lines[1]
    Output(json=True).event(_make(kind, FORGED))
    assert FORGED in _strings(msgspec.json.decode(capsys.readouterr().out))


def _strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for each in value.values() for text in _strings(each)]
    return [value] if isinstance(value, str) else []


def test_nor_has_an_error_or_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(json=False)
    output.error(ChannelError(FORGED))
    output.hint(FORGED)
    output.say(FORGED)
    out, err = capsys.readouterr()
    assert (out.count("\n"), err.count("\n")) == (1, 2)
    assert not BAD & set(out + err) - {"\n"}


@pytest.mark.parametrize("width", [80, 2000])
def test_nor_has_a_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    output = Output(json=False)
    target = WakeTarget(
        target_id="cd" * 16, kind=WakeKind.WEBHOOK, host=FORGED, created=1.0, failure=FORGED
    )
    device = DeviceInfo(
        device_key="02" + "ab" * 32, name=FORGED, rights=[], created=1.0, revoked=None
    )
    output.wake_targets([target])
    output.devices([device])
    shown = capsys.readouterr().out
    assert not BAD & set(shown) - {"\n"}
    assert shown.count("too small??") == 3


def test_two_questions_say_which_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(json=False)
    output.question(1, samples.request(1))
    output.question(2, samples.request(2, funding_satoshis=7_000_000))
    shown = capsys.readouterr().out
    assert f"[1] Accept the channel of 1,000,000 sat from {samples.PEER.hex()}?" in shown
    assert f"[2] Accept the channel of 7,000,000 sat from {samples.PEER.hex()}?" in shown
