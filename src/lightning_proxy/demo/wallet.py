"""The demo's wallet: fresh keys in a process of their own, a policy that accepts, the SDK.

`python -m lightning_proxy.demo.wallet` prints every frame that it exchanges with the relay; its
private keys it writes to one file descriptor only, for the demo to look for them elsewhere. Without
`--chain` it signs no funding; with one it is the reference wallet, and its channels are real ones.
"""

import argparse
import asyncio
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Final, Literal

import msgspec

from lightning_proxy.bolt.chains import CHAIN_HASHES
from lightning_proxy.bolt.derivation import FIRST_COMMITMENT_INDEX, per_commitment_secret
from lightning_proxy.bolt.errors import BoltError
from lightning_proxy.chain import ChainError
from lightning_proxy.demo.channel_peer import CHANNEL_TYPES, MINIMUM_DEPTH
from lightning_proxy.demo.coins import Coin, Faucet, faucet_at
from lightning_proxy.demo.lines import emit
from lightning_proxy.demo.phone import Phone
from lightning_proxy.rpc import FundingSigned, Rejected, Voided, WakeByWebhook, WakeTarget
from lightning_proxy.wallet import (
    ChannelOpened,
    ChannelProblem,
    Event,
    FundingSignedRequest,
    FundingWanted,
    KeySigner,
    MessageReceived,
    Policy,
    Record,
    ReferenceWallet,
    Refusal,
    Refused,
    Session,
    SessionClosed,
    Wallet,
    WalletError,
    WalletKeys,
    files,
)
from lightning_proxy.wallet.overview import overview

#: As deep as the peer wants its own.
_POLICY: Final = Policy(chains=tuple(CHAIN_HASHES), minimum_depth=MINIMUM_DEPTH)
#: Seconds between two looks at the chain.
_CHAIN_INTERVAL: Final = 0.1
_NO_FUNDS: Final = "this is a demo, no funds are to move"
#: Whose per-commitment secrets are looked for, besides the first: those of the points that cross,
#: and one more.
_LATER_COMMITMENTS: Final = {1: "second", 2: "third"}


class _NoFunds(KeySigner):
    """Its owner's node is a real one: it gets public keys, and no signature that moves money."""

    async def funding_signed(self, request: FundingSignedRequest) -> FundingSigned:
        raise Refusal(_NO_FUNDS)


class _Coins:
    """The user's on-chain wallet: one coin from the faucet for each channel, all of one key."""

    def __init__(self, faucet: Faucet) -> None:
        self.secret = secrets.token_bytes(32)
        self._faucet = faucet

    async def fund(self, wanted: FundingWanted) -> bytes:
        """A signed PSBT that pays this."""
        try:
            coin = await Coin.from_faucet(self._faucet, wanted.amount_sat, self.secret)
        except ChainError as error:
            raise Refusal(str(error)) from None
        return coin.fund(wanted.scriptpubkey, wanted.amount_sat).psbt()


class _KnownKeys(WalletKeys):
    """Its one channel's are known before there is one, for who looks for them later."""

    __slots__ = ("_known",)

    def __init__(self, seed: bytes) -> None:
        super().__init__(seed)
        self._known = super().fresh_salt()

    def fresh_salt(self) -> bytes:
        """The salt of channel 0."""
        return self._known


def _print_frame(direction: Literal["sent", "received"], text: str) -> None:
    emit("frame", direction=direction, size=len(text.encode()), text=text)


def _hand_over(private_keys: Mapping[str, bytes], descriptor: int) -> None:
    """Write every private key to the demo."""
    with os.fdopen(descriptor, "wb") as pipe:
        named = {name: secret.hex() for name, secret in private_keys.items()}
        pipe.write(msgspec.json.encode(named))


def _private_keys(keys: WalletKeys, options: argparse.Namespace) -> Iterator[tuple[str, bytes]]:
    """The wallet's and its first channel's; of a real channel, also what it will need later."""
    salt = keys.fresh_salt()
    yield from keys.private_keys((0,), salt)
    if options.chain is not None:
        seed = keys.channel(0, salt).per_commitment_seed
        for number, name in _LATER_COMMITMENTS.items():
            secret = per_commitment_secret(seed, FIRST_COMMITMENT_INDEX - number)
            yield f"channel 0: {name} per_commitment_secret", secret


async def _watch(
    events: AsyncIterator[Event], session: Session, wallet: ReferenceWallet | None
) -> None:
    """Say what happens, until the session is over."""
    async for event in events:
        match event:
            case MessageReceived():
                emit(f"{event.received.name}_received", size=len(event.received.raw))
            case Refused(reason=reason) if reason == _NO_FUNDS:
                emit("funding_refused", reason=reason)
            case Refused() | Voided() | Rejected() | ChannelProblem():
                emit("failed", reason=event.reason)
            case ChannelOpened() if wallet is not None:
                await _show_channels(wallet)
            case SessionClosed() if event.session_id == session.id:
                emit("closed", reason=event.reason)
                return


async def _show_channels(wallet: ReferenceWallet) -> None:
    """What the wallet's owner sees of its channels, by its own record and its own chain."""
    source = None if wallet.chain is None else wallet.chain.source
    for view in await overview(await wallet.record.channels(), _POLICY, source=source):
        emit("channel", **msgspec.to_builtins(view))


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
    keys = _KnownKeys.generate()
    coins = None if options.open is None else _Coins(faucet_at(options.faucet))
    if options.keys_descriptor is not None:
        private_keys = dict(_private_keys(keys, options))
        if coins is not None:
            private_keys["on-chain key"] = coins.secret
        _hand_over(private_keys, options.keys_descriptor)
    path = options.folder / "wallet"
    Record.create(files.record_path(path), keys.node_id)
    if options.sleep:
        await _run_asleep(options, keys, path)
    elif options.chain is None:
        await _run_without_funds(options, keys, path)
    else:
        await _run_with_channels(options, keys, path, coins)


async def _run_without_funds(options: argparse.Namespace, keys: WalletKeys, path: Path) -> None:
    async with (
        Record(files.record_path(path), keys.node_id) as record,
        Wallet(
            options.relay, keys, signer=_NoFunds(keys, _POLICY, record), on_frame=_print_frame
        ) as client,
    ):
        emit("ready", node_id=keys.node_id.hex())
        session = await client.connect(options.peer)
        emit("connected", session_id=session.id)
        counting = asyncio.create_task(_count(client, session, options.count_interval))
        try:
            await _watch(client.events(), session, None)
        finally:
            counting.cancel()
            await asyncio.gather(counting, return_exceptions=True)


async def _run_asleep(options: argparse.Namespace, keys: WalletKeys, path: Path) -> None:
    async with AsyncExitStack() as stack:
        phone = await stack.enter_async_context(Phone())
        record = await stack.enter_async_context(Record(files.record_path(path), keys.node_id))
        signer = _NoFunds(keys, _POLICY, record)

        def wallet() -> Wallet:
            return Wallet(options.relay, keys, signer=signer, on_frame=_print_frame)

        async with wallet() as client:
            emit("ready", node_id=keys.node_id.hex())
            session = await client.connect(options.peer)
            emit("connected", session_id=session.id)
            settings = client.settings
            assert settings is not None  # noqa: S101 - it has authenticated
            phone.relay_node_id = bytes.fromhex(settings.relay_node_id or "")
            await client.request("wake_by_webhook", WakeByWebhook(phone.url), WakeTarget)
        emit("asleep")
        wake, size = await phone.woken()
        emit("pushed", size=size, reason=wake.reason.value)
        async with wallet() as client:
            emit("awake")
            await _watch(client.events(), client.session(session.id), None)


async def _run_with_channels(
    options: argparse.Namespace, keys: WalletKeys, path: Path, coins: _Coins | None
) -> None:
    async with ReferenceWallet(
        path,
        keys,
        options.relay,
        policy=_POLICY,
        on_frame=_print_frame,
        chain=options.chain,
        chain_interval=_CHAIN_INTERVAL,
        funder=coins,
    ) as wallet:
        emit("ready", node_id=keys.node_id.hex())
        session = await wallet.connect(options.peer)
        emit("connected", session_id=session.id)
        watching = asyncio.create_task(_watch(wallet.watch(), session, wallet))
        try:
            if coins is not None:
                await wallet.open_channel(
                    session,
                    options.funding_sat,
                    options.push_msat,
                    channel_type=options.open,
                )
            await watching
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)


def main() -> None:
    """Run until the session is over, or until interrupted."""
    parser = argparse.ArgumentParser(prog="lightning_proxy.demo.wallet", description=__doc__)
    parser.add_argument("--relay", required=True, metavar="URL")
    parser.add_argument("--peer", required=True, metavar="PUBKEY@HOST:PORT")
    parser.add_argument("--folder", required=True, type=Path, help="where its record goes")
    parser.add_argument("--keys-descriptor", type=int, help="where its private keys go")
    parser.add_argument("--count-interval", type=float, default=0.0, help="seconds")
    parser.add_argument("--sleep", action="store_true", help="go away once it is connected")
    parser.add_argument("--chain", metavar="URL", help="its own chain source; needs --faucet")
    parser.add_argument("--faucet", metavar="URL", help="where its coins come from")
    parser.add_argument("--open", choices=CHANNEL_TYPES, help="open a channel of this type")
    parser.add_argument("--funding-sat", type=int)
    parser.add_argument("--push-msat", type=int, default=0)
    try:
        with suppress(KeyboardInterrupt, asyncio.CancelledError):
            asyncio.run(_run(parser.parse_args()))
    except (WalletError, BoltError, ChainError) as error:
        emit("failed", reason=str(error))
        sys.exit(1)


if __name__ == "__main__":
    main()
