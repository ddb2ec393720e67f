"""Real nodes as the channel tests see them, whichever they are: their channels and payments."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from hashlib import sha256
from pathlib import Path
from secrets import token_bytes
from typing import Any, NamedTuple, Protocol

from lightning_proxy.wallet.funding import FundingWanted
from lightning_proxy.wallet.policy import ChannelType
from tests.interop.lab.btcd import Btcd
from tests.interop.lab.ldk_node import LdkNode
from tests.interop.lab.nodes import Lnd
from tests.interop.lab.process import LabError, Part, until

FUNDING_SAT = 1_000_000
PUSH_SAT = 50_000
#: How often the chain grows while somebody waits for a channel, in seconds.
BLOCK_INTERVAL = 0.5


class Bill(NamedTuple):
    """An invoice of a peer's."""

    text: str
    #: In hex.
    payment_hash: str
    #: In hex, of one whose payment waits to be settled.
    preimage: str = ""


class Peer(Protocol):
    """What the tests ask of a real node, whichever it is."""

    @property
    def node(self) -> Part: ...

    @property
    def url(self) -> str: ...

    async def open_to(
        self, node_id: str, channel_type: ChannelType, push_msat: int = 1000 * PUSH_SAT
    ) -> None: ...

    async def channels(self, node_id: str) -> list[dict[str, Any]]: ...

    async def is_active(self, node_id: str) -> bool: ...

    async def has_any(self, node_id: str) -> bool: ...

    def type_of(self, channel: dict[str, Any]) -> ChannelType: ...

    async def bill(self, amount_msat: int, *, held: bool = False) -> Bill:
        """An invoice; `held`: its payment waits for `settle` or `cancel`."""
        ...

    async def settle(self, bill: Bill) -> None: ...

    async def cancel(self, bill: Bill) -> None: ...

    async def pay(self, invoice: str) -> None:
        """Pays until the outcome is known, or until this node is killed; `sent` tells it."""
        ...

    async def sent(self) -> dict[str, str]:
        """The node's own list of what it paid: "settled", "failed" or "pending", by hash."""
        ...

    async def received(self) -> dict[str, str]:
        """The node's own list of what it asked for: these, or "open"."""
        ...

    async def feerate(self, node_id: str) -> int:
        """What its one channel with this node pays, in sat per 1000 weight."""
        ...


class LndPeer:
    """Its channels are `listchannels`'."""

    def __init__(self, node: Lnd) -> None:
        self.node = node

    @property
    def url(self) -> str:
        return self.node.url

    async def open_to(
        self, node_id: str, channel_type: ChannelType, push_msat: int = 1000 * PUSH_SAT
    ) -> None:
        # What it takes by itself where both nodes know anchors, has no name on its command line.
        options = ["--channel_type=tweakless"] if channel_type == "static_remotekey" else []
        await self.node.open_channel(node_id, FUNDING_SAT, push_msat // 1000, "--private", *options)

    async def channels(self, node_id: str) -> list[dict[str, Any]]:
        return [each for each in await self.node.channels() if each["remote_pubkey"] == node_id]

    async def is_active(self, node_id: str) -> bool:
        channels = await self.channels(node_id)
        return bool(channels) and all(channel["active"] for channel in channels)

    async def has_any(self, node_id: str) -> bool:
        pending = (await self.node.pending_channels())["pending_open_channels"]
        return bool(pending) or bool(await self.channels(node_id))

    def type_of(self, channel: dict[str, Any]) -> ChannelType:
        return "anchors" if channel["commitment_type"] == "ANCHORS" else "static_remotekey"

    async def bill(self, amount_msat: int, *, held: bool = False) -> Bill:
        if held:
            preimage = token_bytes(32)
            hash_ = sha256(preimage).hexdigest()
            made = await self.node.cli("addholdinvoice", hash_, "--amt_msat", amount_msat)
            return Bill(made["payment_request"], hash_, preimage.hex())
        made = await self.node.cli("addinvoice", "--amt_msat", amount_msat)
        return Bill(made["payment_request"], made["r_hash"])

    async def settle(self, bill: Bill) -> None:
        await self.node.cli("settleinvoice", bill.preimage)

    async def cancel(self, bill: Bill) -> None:
        await self.node.cli("cancelinvoice", bill.payment_hash)

    async def pay(self, invoice: str) -> None:
        with contextlib.suppress(LabError):
            await self.node.cli("payinvoice", "--force", "--json", "--timeout=60s", invoice)

    async def sent(self) -> dict[str, str]:
        words = {"SUCCEEDED": "settled", "FAILED": "failed"}
        listed = await self.node.cli("listpayments", "--include_incomplete")
        return {
            each["payment_hash"]: words.get(each["status"], "pending")
            for each in listed["payments"]
        }

    async def received(self) -> dict[str, str]:
        words = {"SETTLED": "settled", "CANCELED": "failed", "OPEN": "open"}
        listed = await self.node.cli("listinvoices", "--max_invoices=1000")
        return {each["r_hash"]: words.get(each["state"], "pending") for each in listed["invoices"]}

    async def feerate(self, node_id: str) -> int:
        (channel,) = await self.channels(node_id)
        return int(channel["fee_per_kw"])


class LdkPeer:
    def __init__(self, node: LdkNode) -> None:
        self.node = node

    @property
    def url(self) -> str:
        return self.node.url

    async def open_to(
        self, node_id: str, channel_type: ChannelType, push_msat: int = 1000 * PUSH_SAT
    ) -> None:
        await self.node.open_channel(
            node_id, FUNDING_SAT, push_msat, anchors=channel_type == "anchors"
        )

    async def channels(self, node_id: str) -> list[dict[str, Any]]:
        return [each for each in await self.node.channels() if each["node_id"] == node_id]

    async def is_active(self, node_id: str) -> bool:
        channels = await self.channels(node_id)
        return bool(channels) and all(channel["usable"] for channel in channels)

    async def has_any(self, node_id: str) -> bool:
        return any(each["funding_outpoint"] for each in await self.channels(node_id))

    def type_of(self, channel: dict[str, Any]) -> ChannelType:
        # BOLT #9: option_anchors is bit 22.
        bits = int(channel["channel_type"], 16)
        return "anchors" if bits >> 22 & 1 else "static_remotekey"

    async def bill(self, amount_msat: int, *, held: bool = False) -> Bill:
        await self.node.post("hold", on=held)
        made = await self.node.post("invoice", amount_msat=amount_msat)
        return Bill(made["invoice"], made["payment_hash"])

    async def settle(self, bill: Bill) -> None:
        await self.node.post("settle", payment_hash=bill.payment_hash)

    async def cancel(self, bill: Bill) -> None:
        await self.node.post("settle", payment_hash=bill.payment_hash, fail=True)

    async def pay(self, invoice: str) -> None:
        hash_ = (await self.node.post("pay", invoice=invoice))["payment_hash"]

        async def is_over() -> bool:
            return (await self.sent()).get(hash_) is not None

        await until(f"{self.node.name}'s payment", is_over, self.node.child)

    async def sent(self) -> dict[str, str]:
        return self._told({"PaymentSent": "settled", "PaymentFailed": "failed"})

    async def received(self) -> dict[str, str]:
        return self._told({"PaymentClaimable": "pending", "PaymentClaimed": "settled"})

    def _told(self, words: dict[str, str]) -> dict[str, str]:
        """By its log, which tells of what was before a kill -9, too."""
        found = {}
        for line in self.node.log.read_bytes().splitlines():
            if line.startswith(b"EVENT {") and line.endswith(b"}"):
                event = json.loads(line.removeprefix(b"EVENT "))
                if event["event"] in words:
                    found[event["payment_hash"]] = words[event["event"]]
        return found

    async def feerate(self, node_id: str) -> int:
        (channel,) = await self.channels(node_id)
        return int(channel["feerate_per_kw"])


@asynccontextmanager
async def real_peer(
    name: str, folder: Path, btcd: Btcd, channel_type: ChannelType
) -> AsyncIterator[Peer]:
    """`lnd` or `ldk`, with money where it needs some."""
    async with AsyncExitStack() as stack:
        if name == "ldk":
            yield LdkPeer(await stack.enter_async_context(LdkNode(folder, btcd=btcd)))
        else:
            options = ["--protocol.anchors"] if channel_type == "anchors" else []
            lnd = await stack.enter_async_context(Lnd(folder, btcd, "lnd", *options))
            # Two coins: one that an opening has taken comes back minutes after a kill -9.
            await lnd.fund()
            await lnd.fund()
            yield LndPeer(lnd)


async def grow_until_active(btcd: Btcd, peer: Peer, node_id: str) -> None:
    """Mine, block by block, until the peer says that all its channels with this node work."""

    async def active() -> bool:
        if await peer.is_active(node_id):
            return True
        await btcd.mine(1)
        await asyncio.sleep(BLOCK_INTERVAL)
        return False

    await until("the channel to be active", active, peer.node.child, patience=60)


class LndFunder:
    """An owner whose on-chain money is in some lnd: it signs a PSBT, and broadcasts nothing."""

    def __init__(self, lnd: Lnd) -> None:
        self._lnd = lnd

    async def fund(self, wanted: FundingWanted) -> bytes:
        psbt = await self._lnd.signed_psbt(wanted.address, wanted.amount_sat)
        return psbt.encode()
