"""Every event in words and as JSON."""

from typing import Any

import msgspec
import pytest

from lightning_proxy import rpc
from lightning_proxy.bolt.messages import ChannelReady
from lightning_proxy.rpc import DelegationKind
from lightning_proxy.wallet.describe import describe
from lightning_proxy.wallet.events import (
    Answered,
    ChannelOpened,
    ChannelProblem,
    DelegationReceived,
    Event,
    FundingChange,
    FundingChanged,
    PeerConnected,
    PeerUnreachable,
)
from lightning_proxy.wallet.request import read_request
from tests.unit.bolt.samples import ACCEPT_CHANNEL
from tests.unit.wallet.samples import OPEN_CHANNEL, PEER, SESSION_ID, delegate

ID = b"\x07" * 32
READY = ChannelReady(channel_id=ID, second_per_commitment_point=PEER).encode()


def asked(kind: DelegationKind) -> DelegationReceived:
    message, channel_id = READY, ID
    if kind is DelegationKind.CHANNEL_KEYS:
        message, channel_id = OPEN_CHANNEL.encode(), OPEN_CHANNEL.temporary_channel_id
    elif kind is DelegationKind.FUNDING_CREATED:
        message, channel_id = ACCEPT_CHANNEL.encode(), ACCEPT_CHANNEL.temporary_channel_id
    elif kind is DelegationKind.FUNDING_SIGNED:
        message = b"\x00\x22" + ID + bytes(32 + 2 + 64)
    envelope = delegate(kind=kind, channel_id=channel_id.hex(), messages=[message.hex()])
    return DelegationReceived(read_request(envelope))


@pytest.mark.parametrize("kind", list(DelegationKind))
def test_questions_and_answers(kind: DelegationKind) -> None:
    event = asked(kind)
    value, lines = describe(event)
    assert (value["event"], value["kind"]) == ("delegation", kind.value)
    assert PEER.hex()[:10] in lines[0]
    value, (sentence,) = describe(Answered(event.request, rpc.FundingSigned("00" * 64)))
    assert (value["event"], value["channel_id"]) == ("answered", event.request.channel_id.hex())
    assert sentence.endswith(".")
    assert "{" not in sentence


@pytest.mark.parametrize(
    ("event", "name", "words"),
    [
        (FundingChanged(ID, FundingChange.SPENT, 6), "funding", "WAS SPENT"),
        (FundingChanged(ID, FundingChange.GONE, 0), "funding", "IS GONE"),
        (FundingChanged(ID, FundingChange.SEEN, 0), "funding", "waits"),
        (FundingChanged(ID, FundingChange.CONFIRMED, 3), "funding", "is confirmed."),
        (FundingChanged(ID, FundingChange.DIFFERS, 3, "too little"), "funding", "too little."),
        (ChannelOpened(ID, PEER), "channel_opened", "is open."),
        (ChannelProblem(ID, PEER, "no"), "problem", "NOT AS IN THE RECORD"),
        (ChannelProblem(ID, PEER, "no", state_lost=True), "problem", "MAY BE AN OLD COPY"),
        (PeerConnected(SESSION_ID, PEER), "peer_connected", SESSION_ID),
        (PeerUnreachable(PEER, "Nobody."), "peer_unreachable", "Nobody. Trying again."),
    ],
)
def test_events_of_channels(event: Event, name: str, words: str) -> None:
    value: dict[str, Any]
    value, lines = describe(event)
    assert value["event"] == name
    msgspec.json.encode(value)
    assert words in "\n".join(lines)
