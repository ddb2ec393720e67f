"""The wallet's lists on a screen of 80 columns: every id whole, and no line longer."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lightning_proxy.bolt.features import Feature, Features
from lightning_proxy.rpc import (
    DelegationKind,
    DeviceInfo,
    DeviceRight,
    SessionInfo,
    SessionState,
    SlotInfo,
    SlotPolicy,
    WakeKind,
    WakeTarget,
)
from lightning_proxy.wallet.answers import Answer
from lightning_proxy.wallet.display import Output
from lightning_proxy.wallet.overview import ChannelView, FundingView, HtlcView

WIDTH = 80
KEY = "02" + "ab" * 32
ID = "cd" * 16
CHANNEL = "ef" * 32
NOW = 1_700_000_000.0
SENTENCE = "The push service did not answer, which happens when it is overloaded or not reachable."
BITS = Features.offering(Feature.OPTION_ANCHORS, Feature.OPTION_SCID_ALIAS).to_bytes().hex()


def _session(output: Output) -> None:
    info = SessionInfo(session_id=ID, peer=f"{KEY}@ln:9735", state=SessionState.READY, created=NOW)
    output.sessions([info, info])


def _channels(output: Output) -> None:
    view = ChannelView(
        channel_id=CHANNEL,
        peer=KEY,
        role="opener",
        state="signed",
        description="waiting for the peer's channel_ready",
        chain="bitcoin",
        channel_type="option_static_remotekey, option_anchors, option_scid_alias",
        public=False,
        capacity_sat=16_777_215,
        our_balance_msat=16_000_000_123,
        peer_balance_msat=777_214_877,
        unproved_msat=1_000_000,
        sendable_msat=15_000_000_123,
        receivable_msat=700_000_000,
        htlcs=[
            HtlcView(
                is_incoming=is_incoming,
                amount_msat=7_000_000_001,
                payment_hash=CHANNEL,
                cltv_expiry=950_000,
            )
            for is_incoming in (True, False)
        ],
        confirmations_needed=6,
        funding=FundingView(source="own chain source", confirmations=2),
    )
    output.channels([view, view])


def _slots(output: Output) -> None:
    policy = SlotPolicy(
        max_funding_sat=16_777_215, peers=[KEY] * 3, channel_types=[BITS, BITS + "00"]
    )
    info = SlotInfo(slot_id=ID, funding_pubkey=KEY, policy=policy, created=NOW, used=NOW)
    output.slots([info])


def _wake_targets(output: Output) -> None:
    target = WakeTarget(
        target_id=ID,
        kind=WakeKind.WEB_PUSH,
        host="updates.push.services.example.com",
        created=NOW,
        last_success=NOW,
        failure=SENTENCE,
    )
    output.wake_targets([target])


def _devices(output: Output) -> None:
    info = DeviceInfo(
        device_key=KEY, name="the old telephone", rights=list(DeviceRight), created=NOW, revoked=NOW
    )
    output.devices([info])


def _wallet(output: Output) -> None:
    answer = Answer(
        ID, DelegationKind.CHANNEL_KEYS, b"", bytes.fromhex(KEY), NOW, None, None, SENTENCE
    )
    output.wallet(bytes.fromhex(KEY), Path("wallet.json"), 3, [answer])


@pytest.mark.parametrize(
    ("show", "whole"),
    [
        (_session, ID),
        (_channels, CHANNEL),
        (_slots, ID),
        (_wake_targets, ID),
        (_devices, KEY),
        (_wallet, KEY),
    ],
)
def test_lists_fit_80_columns(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    show: Callable[[Output], None],
    whole: str,
) -> None:
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    show(Output(json=False))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert whole in "\n".join(lines)
