"""The page for people in a real browser."""

import asyncio
from pathlib import Path

from tests.interop.lab import build
from tests.interop.lab.nodes import PylnPeer
from tests.interop.lab.process import READY_TIMEOUT
from tests.interop.relayed import lab_relay, lab_wallet

# Nothing that a browser does by itself when it starts; a closed network would have it wait.
_OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--window-size=900,700",
)


async def _browse(folder: Path, *arguments: str) -> str:
    """Runs the browser once; what it prints."""
    process = await asyncio.create_subprocess_exec(
        build.home("browser") / "chromium",
        *_OPTIONS,
        f"--user-data-dir={folder / 'profile'}",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    async with asyncio.timeout(READY_TIMEOUT):
        output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()


async def test_the_page_shows_what_the_relay_holds(lab: Path) -> None:
    async with (
        PylnPeer(lab) as peer,
        lab_relay() as relay,
        lab_wallet(lab, relay.url) as wallet,
    ):
        await wallet.client.connect(peer.url)
        page = await _browse(lab, "--dump-dom", relay.url)
        assert '<dd id="sessions">1</dd>' in page
        assert '<dd id="wallets">1</dd>' in page
        picture = lab / "page.png"
        await _browse(lab, f"--screenshot={picture}", relay.url)
        assert picture.read_bytes().startswith(b"\x89PNG")
        # A strict Content-Security-Policy has to let the page's own style through.
        assert picture.stat().st_size > 10_000
