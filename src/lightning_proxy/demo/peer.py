"""The built-in peer: a Lightning node of few words, which opens channels, or accepts them.

`python -m lightning_proxy.demo.peer` listens; with whoever connects it exchanges `init`, then pings
it. Without `--chain` it then sends one `open_channel` and judges the `accept_channel` that comes
back; with a chain it is a `ChannelPeer`, and the channel becomes a real one.
"""

import argparse
import asyncio
import secrets
import signal
import socket
from functools import partial
from typing import Final

import uvloop
from coincurve import PrivateKey

from lightning_proxy.bolt.chains import CHAIN_HASHES
from lightning_proxy.bolt.messages import AcceptChannel, OpenChannel
from lightning_proxy.bolt.opening import check_accept_channel
from lightning_proxy.chain import ChainError, open_source
from lightning_proxy.demo.channel_peer import CHANNEL_TYPES, ChannelPeer, Opening
from lightning_proxy.demo.coins import faucet_at
from lightning_proxy.demo.connection import Connection, address_of, converse_with_all
from lightning_proxy.demo.lines import emit

#: Seconds for the `accept_channel`; people take their time.
_ACCEPT_PATIENCE: Final = 60.0
#: What it opens.
_FUNDING_SAT: Final = 1_000_000


async def _offer_only(connection: Connection, go: asyncio.Event) -> None:
    """Ask for a channel, and see whether the answer is right."""
    await connection.ping()
    await go.wait()
    open_channel = _make_open_channel()
    connection.send(open_channel)
    async with asyncio.timeout(_ACCEPT_PATIENCE):
        accept_channel = await connection.receive_one(AcceptChannel)
    check_accept_channel(open_channel, accept_channel, connection.features)
    emit("done")
    await connection.wait_until_closed()


def _make_open_channel() -> OpenChannel:
    """A private channel with keys that nobody has, as lnd would ask for it."""
    return OpenChannel(
        chain_hash=CHAIN_HASHES["regtest"],
        temporary_channel_id=secrets.token_bytes(32),
        funding_satoshis=_FUNDING_SAT,
        push_msat=0,
        dust_limit_satoshis=354,
        max_htlc_value_in_flight_msat=990_000_000,
        channel_reserve_satoshis=10_000,
        htlc_minimum_msat=1,
        feerate_per_kw=253,
        to_self_delay=144,
        max_accepted_htlcs=483,
        funding_pubkey=_point(),
        revocation_basepoint=_point(),
        payment_basepoint=_point(),
        delayed_payment_basepoint=_point(),
        htlc_basepoint=_point(),
        first_per_commitment_point=_point(),
        channel_flags=0,
        upfront_shutdown_script=b"",
        channel_type=CHANNEL_TYPES["anchors"].to_bytes(),
    )


def _point() -> bytes:
    return PrivateKey().public_key.format()


async def _serve_channels(
    node_secret: bytes, listening: socket.socket, options: argparse.Namespace
) -> None:
    """Be a `ChannelPeer`; with `--open` it opens a channel to each node that it has none with."""
    opening = None
    if options.open is not None:
        opening = Opening(options.funding_sat, options.push_msat, options.open)
    source = await open_source(options.chain)
    try:
        async with ChannelPeer(source, faucet_at(options.faucet), emit, opening) as peer:

            async def converse(connection: Connection) -> None:
                await connection.ping()
                await peer.converse(connection)

            emit("listening", address=address_of(node_secret, listening))
            await converse_with_all(node_secret, listening, converse, emit)
    finally:
        await source.close()


async def _serve(options: argparse.Namespace) -> None:
    node_secret = PrivateKey().secret
    with socket.create_server((options.host, options.port)) as listening:
        listening.setblocking(False)
        if options.chain is not None:
            await _serve_channels(node_secret, listening, options)
        else:
            go = asyncio.Event()
            if options.wait:
                asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, go.set)
            else:
                go.set()
            emit("listening", address=address_of(node_secret, listening))
            await converse_with_all(node_secret, listening, partial(_offer_only, go=go), emit)


def main() -> None:
    """Run until interrupted."""
    parser = argparse.ArgumentParser(prog="lightning_proxy.demo.peer", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9735, help="0: a free one")
    parser.add_argument(
        "--wait", action="store_true", help="ask for a channel at SIGUSR1; not with a chain"
    )
    parser.add_argument("--chain", metavar="URL", help="the chain source; needs --faucet")
    parser.add_argument("--faucet", metavar="URL", help="where its coins come from")
    parser.add_argument("--open", choices=CHANNEL_TYPES, help="open a channel of this type")
    parser.add_argument("--funding-sat", type=int, default=_FUNDING_SAT)
    parser.add_argument("--push-msat", type=int, default=0)
    options = parser.parse_args()
    if (options.chain is None) is not (options.faucet is None):
        parser.error("--chain and --faucet go together")
    try:
        uvloop.run(_serve(options))
    except KeyboardInterrupt:
        return
    except OSError as error:
        raise SystemExit(f"{options.host} port {options.port}: {error.strerror}") from None
    except (ChainError, ValueError) as error:
        raise SystemExit(f"--chain: {error}") from None


if __name__ == "__main__":
    main()
