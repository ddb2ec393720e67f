"""Nothing of a session is left when it is gone: counted in a process of its own."""

import subprocess
import sys
import textwrap
from pathlib import Path

_SCRIPT = textwrap.dedent(
    """
    import asyncio, gc, sys
    import uvloop
    import structlog
    from lightning_proxy.relay.session import Session
    from lightning_proxy.relay.delegation import Delegation
    from lightning_proxy.relay.inbox import Inbox
    from lightning_proxy.transport import CipherState, PeerTransport
    from lightning_proxy.api.socket import WalletSocket
    from tests.support.channels import channel_keys, open_channel
    from tests.support.peer import ScriptedPeer
    from tests.support.relay import raw_wallet, relay

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    KINDS = (Session, Delegation, Inbox, CipherState, PeerTransport, WalletSocket)

    async def round_(server, peer):
        async with raw_wallet(server.url) as wallet:
            for end in ("peer", "wallet", "garbage"):
                session_id, connection = await wallet.open_session(peer)
                await connection.send(open_channel().encode(), open_channel().encode())
                await wallet.answer(await wallet.event("delegate"), channel_keys())
                await wallet.event("delegate")
                if end == "peer":
                    await connection.close()
                elif end == "wallet":
                    await wallet.call("close", session_id=session_id)
                else:
                    await connection.raw(bytes(200))
                await wallet.event("voided")
                await wallet.event("closed")
            await wallet.acknowledge()

    def count():
        gc.collect()
        objects = gc.get_objects()
        return {kind.__name__: sum(type(o) is kind for o in objects) for kind in KINDS}

    async def main():
        async with relay() as server:
            for _ in range(3):
                async with ScriptedPeer(b"\\x2a" * 32).serve() as peer:
                    await round_(server, peer)
            while server.relay.wallets or list(server.relay.sessions()):
                await asyncio.sleep(0.01)
            for _ in range(100):
                # What is on its way out needs a moment, on a busy machine a longer one.
                if not any((left := count()).values()):
                    break
                await asyncio.sleep(0.1)
            print(left)
            sys.exit(any(left.values()))

    uvloop.run(main())
    """
)


def test_nothing_is_left() -> None:
    result = subprocess.run(
        [sys.executable, "-c", _SCRIPT],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 0, result.stdout + result.stderr
