"""Channels with real peers on a real chain: both ways, both types, and after every kill -9.

The relay and the wallet are processes of their own, as their owners run them.
"""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from lightning_proxy.bolt.channel import ChannelState
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.wallet.policy import ChannelType
from tests.interop.lab.btcd import Btcd
from tests.interop.lab.nodes import LND_HOST, Lnd
from tests.interop.lab.ours import RelayProcess, WalletProcess
from tests.interop.lab.process import LabError, Part, until
from tests.interop.peers import (
    BLOCK_INTERVAL,
    FUNDING_SAT,
    PUSH_SAT,
    LndFunder,
    Peer,
    grow_until_active,
    real_peer,
)
from tests.interop.relayed import LabWallet, lab_relay, lab_wallet
from tests.interop.results import Results

#: Seconds for an opening that somebody's end interrupted.
PATIENCE = 10


@pytest.mark.parametrize("channel_type", ["static_remotekey", "anchors"])
@pytest.mark.parametrize("name", ["lnd", "ldk"])
async def test_the_peer_opens(
    lab: Path, results: Results, name: str, channel_type: ChannelType
) -> None:
    async with (
        Btcd(lab) as btcd,
        real_peer(name, lab, btcd, channel_type) as peer,
        lab_relay(chain=btcd.source_url) as relay,
        lab_wallet(lab, relay.url, chain=btcd.source_url) as wallet,
    ):
        await wallet.reference.connect(peer.url)
        await peer.open_to(wallet.node_id, channel_type)
        await grow_until_active(btcd, peer, wallet.node_id)
        await agreed(peer, wallet, channel_type, Role.ACCEPTER)
        evidence = await peer.channels(wallet.node_id)
        results.opened(name, channel_type, "peer to wallet", "active", evidence)


@pytest.mark.parametrize("channel_type", ["static_remotekey", "anchors"])
@pytest.mark.parametrize("name", ["lnd", "ldk"])
async def test_the_wallet_opens(
    lab: Path, results: Results, name: str, channel_type: ChannelType
) -> None:
    async with (
        Btcd(lab) as btcd,
        real_peer(name, lab, btcd, channel_type) as peer,
        Lnd(lab, btcd, "owner", host="127.0.0.3") as owner,
        lab_relay(chain=btcd.source_url) as relay,
        lab_wallet(lab, relay.url, chain=btcd.source_url, funder=LndFunder(owner)) as wallet,
    ):
        await owner.fund()
        session = await wallet.reference.connect(peer.url)
        await wallet.reference.open_channel(
            session, FUNDING_SAT, 1000 * PUSH_SAT, channel_type=channel_type
        )

        async def broadcast() -> bool:
            return bool(await btcd.rpc("getrawmempool"))

        await until("the funding transaction", broadcast, peer.node.child, owner.child)
        await grow_until_active(btcd, peer, wallet.node_id)
        await agreed(peer, wallet, channel_type, Role.OPENER)
        evidence = await peer.channels(wallet.node_id)
        results.opened(name, channel_type, "wallet to peer", "active", evidence)


async def agreed(peer: Peer, wallet: LabWallet, channel_type: ChannelType, role: Role) -> None:
    """Peer and wallet tell the same of their one channel."""
    (theirs,) = await peer.channels(wallet.node_id)
    assert peer.type_of(theirs) == channel_type

    async def ready() -> bool:
        (ours,) = await wallet.reference.record.channels()
        return ours.channel().state is ChannelState.READY

    await until("the wallet's channel_ready", ready, patience=20)
    (ours,) = await wallet.reference.record.channels()
    channel = ours.channel()
    assert channel.role is role
    assert channel.open_channel.funding_satoshis == FUNDING_SAT
    assert channel.balance_msat(Role.ACCEPTER) == 1000 * PUSH_SAT
    assert channel.anchors == (channel_type == "anchors")


#: Where the killing happens: what the relay's log says at that moment, and what comes of an opening
#: by BOLT #2: before the peer has our funding_signed, either side may forget it.
STEPS = {
    "open_channel, the wallet is asked": {"event": "delegated", "kind": "channel_keys"},
    "accept_channel sent": {"event": "accept_channel"},
    "funding_created, the wallet is asked": {"event": "delegated", "kind": "funding_signed"},
    "funding_signed sent": {"event": "funding_signed"},
    "confirmed, the wallet is asked": {"event": "delegated", "kind": "channel_ready"},
    "channel_ready sent": {"event": "channel_ready"},
}
#: From here on it must go on.
MUST_GO_ON = ("confirmed, the wallet is asked", "channel_ready sent")


@pytest.mark.parametrize("victim", ["relay", "wallet", "peer"])
@pytest.mark.parametrize("name", ["lnd", "ldk"])
async def test_killed_at_each_step(lab: Path, results: Results, name: str, victim: str) -> None:
    for number, (step, line) in enumerate(STEPS.items()):
        folder = lab / str(number)
        folder.mkdir()
        try:
            outcome = await kill_at(folder, name, victim, step, line)
        except LabError as error:
            raise LabError(f"{name}, {victim} killed at {step!r}: {error}") from error
        results.killed(name, victim, step, outcome)
        assert outcome == "went on" or step not in MUST_GO_ON


async def kill_at(folder: Path, name: str, victim: str, step: str, line: dict[str, str]) -> str:
    """Kill one of the three at this step of an opening, bring it back, and end with a channel."""
    async with (
        Btcd(folder) as btcd,
        real_peer(name, folder, btcd, "anchors") as peer,
        RelayProcess(folder, btcd.source_url, LND_HOST) as relay,
        WalletProcess(folder, relay, btcd.source_url) as wallet,
    ):
        await wallet.connect(peer.url)
        since = relay.mark()
        extra: dict[str, Any] = {name: word for name, word in line.items() if name != "event"}
        opening = asyncio.create_task(peer.open_to(wallet.node_id, "anchors"))
        if step in MUST_GO_ON:
            await relay.said(since, "funding_signed")
            # lnd's transaction is in the mempool when its command ends.
            await asyncio.gather(opening)
            mining = asyncio.create_task(mine(btcd))
            await relay.said(since, line["event"], **extra)
            mining.cancel()
        else:
            await relay.said(since, line["event"], **extra)
        parts: dict[str, Part] = {"relay": relay, "wallet": wallet, "peer": peer.node}
        await parts[victim].restart()
        await wallet.connect(peer.url)
        # Its own user may be told of a failure, or of nothing: what counts is what it has. LDK
        # offers the channel once more on the new connection, and goes on.
        await asyncio.wait([opening], timeout=PATIENCE)
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
        if await settled(peer, wallet.node_id):
            outcome = "went on"
        else:
            # Nothing was lost by it: another opening works at once.
            outcome = "forgotten by the peer, opened anew"
            await open_anew(peer, wallet)
        await grow_until_active(btcd, peer, wallet.node_id)

        async def ready() -> list[dict[str, Any]]:
            return [each for each in await wallet.run("channels") if each["state"] == "ready"]

        (channel,) = await until("the wallet's channel", ready, wallet.child, patience=30)
        assert channel["capacity_sat"] == FUNDING_SAT
        return outcome


async def open_anew(peer: Peer, wallet: WalletProcess) -> None:
    """Connections may still come and go for a moment: the wallet dials by itself, too."""

    async def opened() -> bool:
        await wallet.connect(peer.url)
        await peer.open_to(wallet.node_id, "anchors")
        return True

    await until("another opening", opened, patience=30)


async def mine(btcd: Btcd) -> None:
    while True:
        await btcd.mine(1)
        await asyncio.sleep(BLOCK_INTERVAL)


async def settled(peer: Peer, node_id: str) -> bool:
    """Whether the peer still has a channel with this node, once it had time to forget it."""
    for _ in range(10):
        if await peer.has_any(node_id):
            return True
        await asyncio.sleep(0.1)
    return False
