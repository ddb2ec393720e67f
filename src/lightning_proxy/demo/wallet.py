"""The demo's wallet: fresh keys in a process of their own, a policy that accepts, the SDK.

`python -m lightning_proxy.demo.wallet` prints every frame that it exchanges with the relay; its
private keys it writes to one file descriptor only, for the demo to look for them elsewhere.
"""

import argparse
import asyncio
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec

from lightning_proxy.bolt.chains import CHAIN_HASHES
from lightning_proxy.bolt.errors import BoltError
from lightning_proxy.demo.lines import emit
from lightning_proxy.rpc import Rejected, Voided
from lightning_proxy.wallet import (
    MessageReceived,
    Policy,
    Record,
    ReferenceWallet,
    Refused,
    Session,
    SessionClosed,
    Wallet,
    WalletError,
    WalletKeys,
    reference,
)


def _print_frame(direction: Literal["sent", "received"], text: str) -> None:
    emit("frame", direction=direction, size=len(text.encode()), text=text)


def _hand_over(keys: WalletKeys, descriptor: int) -> None:
    """Write every private key to the demo: the wallet's, and its first channel's."""
    with os.fdopen(descriptor, "wb") as pipe:
        secrets = {name: secret.hex() for name, secret in keys.private_keys(channels=(0,))}
        pipe.write(msgspec.json.encode(secrets))


async def _watch(wallet: ReferenceWallet, session: Session) -> None:
    """Say what happens, until the session is over."""
    async for event in wallet.watch():
        match event:
            case MessageReceived():
                emit(f"{event.received.name}_received", size=len(event.received.raw))
            case Refused() | Voided() | Rejected():
                emit("failed", reason=event.reason)
            case SessionClosed() if event.session_id == session.id:
                emit("closed", reason=event.reason)
                return


async def _count(wallet: Wallet, session: Session, interval: float) -> None:
    """Say what the relay has counted on the session, every `interval` seconds; 0: never."""
    while interval:
        for info in await wallet.sessions():
            if info.session_id == session.id:
                emit(
                    "counters",
                    pings_received=info.pings_received,
                    pongs_received=info.pongs_received,
                )
        await asyncio.sleep(interval)


async def _run(options: argparse.Namespace) -> None:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - for the type checker: this runs in one
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    keys = WalletKeys.generate()
    if options.keys_descriptor is not None:
        _hand_over(keys, options.keys_descriptor)
    path = options.folder / "wallet"
    Record.create(reference.record_path(path), keys.node_id)
    async with ReferenceWallet(
        path, keys, options.relay, policy=Policy(chains=tuple(CHAIN_HASHES)), on_frame=_print_frame
    ) as wallet:
        emit("ready", node_id=keys.node_id.hex())
        session = await wallet.client.connect(options.peer)
        emit("connected", session_id=session.id)
        counting = asyncio.create_task(_count(wallet.client, session, options.count_interval))
        try:
            await _watch(wallet, session)
        finally:
            counting.cancel()
            await asyncio.gather(counting, return_exceptions=True)


def main() -> None:
    """Run until the session is over, or until interrupted."""
    parser = argparse.ArgumentParser(prog="lightning_proxy.demo.wallet", description=__doc__)
    parser.add_argument("--relay", required=True, metavar="URL")
    parser.add_argument("--peer", required=True, metavar="PUBKEY@HOST:PORT")
    parser.add_argument("--folder", required=True, type=Path, help="where its record goes")
    parser.add_argument("--keys-descriptor", type=int, help="where its private keys go")
    parser.add_argument("--count-interval", type=float, default=0.0, help="seconds")
    try:
        with suppress(KeyboardInterrupt, asyncio.CancelledError):
            asyncio.run(_run(parser.parse_args()))
    except (WalletError, BoltError) as error:
        emit("failed", reason=str(error))
        sys.exit(1)


if __name__ == "__main__":
    main()
