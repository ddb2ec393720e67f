"""What the demo of a channel makes of both sides' views, and that it has words for each step."""

from typing import Any

import pytest

from lightning_proxy.cli.demo import WHAT
from lightning_proxy.demo.channel import compare
from lightning_proxy.demo.steps import INCOMING, OFFERED, OUTGOING, Flow
from lightning_proxy.demo.watcher import DemoFailed

PEER: dict[str, Any] = {
    "channel_id": "ab" * 32,
    "state": "ready",
    "capacity_sat": 1_000_000,
    "channel_type": "option_static_remotekey",
    "our_balance_msat": 900_000_000,
    "peer_balance_msat": 100_000_000,
}
WALLET = {**PEER, "our_balance_msat": 100_000_000, "peer_balance_msat": 900_000_000}


def test_the_same_channel_from_both_ends() -> None:
    compare(PEER, WALLET)


@pytest.mark.parametrize("name", PEER)
def test_two_channels(name: str) -> None:
    with pytest.raises(DemoFailed, match=f"the two sides see another {name}: the peer"):
        compare({**PEER, name: "another"}, WALLET)


@pytest.mark.parametrize("flow", [OFFERED, INCOMING, OUTGOING])
def test_each_step_has_its_words(flow: Flow) -> None:
    for due in flow.steps:
        assert WHAT[due.key].format(opener="one", accepter="other", count=1, of=3)
