"""`lightning-proxy demo --peer`: the demo's flow and proof with a real node."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from lightning_proxy.demo.steps import OFFERED
from tests.interop.lab.btcd import Btcd
from tests.interop.lab.ldk_node import LdkNode
from tests.interop.lab.nodes import Lnd
from tests.interop.lab.process import LabError, until


async def _demo(peer: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "lightning_proxy", "demo", "--json", "--wait", "60"),
        *("--peer", peer),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def _shown(demo: asyncio.subprocess.Process) -> dict[str, Any]:
    async with asyncio.timeout(90):
        output, errors = await demo.communicate()
    shown: dict[str, Any] = json.loads(output)
    assert (demo.returncode, shown["ok"]) == (0, True), (shown["failure"], errors.decode())
    return shown


def _is_whole(shown: dict[str, Any]) -> bool:
    """Whether each step came once (a real node pings when it likes), and the proof holds."""
    names = [step["name"] for step in shown["steps"]]
    due = [step.name for step in OFFERED.steps]
    return sorted(names) == sorted(due) and bool(shown["proof"]["holds"])


async def test_with_ldk(lab: Path) -> None:
    async with LdkNode(lab) as ldk:
        demo = await _demo(ldk.url)

        async def connected() -> str | None:
            peers = (await ldk.info())["peers"]
            return peers[0]["node_id"] if peers else None

        wallet = await until("the demo's wallet", connected, ldk.child)
        await ldk.post("open", node_id=wallet, amount_sat=1_000_000)
        assert _is_whole(await _shown(demo))


async def test_with_lnd(lab: Path) -> None:
    async with Btcd(lab) as btcd, Lnd(lab, btcd) as lnd:
        await lnd.fund()
        demo = await _demo(lnd.url)

        async def connected() -> str | None:
            peers = await lnd.peers()
            return peers[0]["pub_key"] if peers else None

        wallet = await until("the demo's wallet", connected, lnd.child)
        opening = asyncio.create_task(lnd.open_channel(wallet, 1_000_000, 0, "--private"))
        shown = await _shown(demo)
        assert _is_whole(shown)
        (error,) = await asyncio.gather(opening, return_exceptions=True)
        assert isinstance(error, LabError)
        assert "this is a demo, no funds are to move" in str(error)
