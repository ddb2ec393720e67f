"""`lightning-proxy wallet`: the reference wallet on the command line."""

import logging
import sys
from pathlib import Path
from typing import Annotated

import structlog
import typer
from msgspec import structs

from lightning_proxy.cli import wallet_away, wallet_channels, wallet_slots
from lightning_proxy.cli.visit import visit
from lightning_proxy.cli.wallet_options import (
    DEFAULT_FILE,
    Approve,
    ApproveOption,
    ChainUrl,
    DeviceKeyFile,
    Json,
    PassphraseFile,
    Peer,
    PolicyFile,
    RelayUrl,
    Token,
    WalletFile,
    fail,
    find_keys,
    load_device,
    load_keys,
    load_policy,
    read_passphrase,
    run,
)
from lightning_proxy.wallet import (
    ChannelKeysRequest,
    Policy,
    Record,
    ReferenceWallet,
    Wallet,
    WalletError,
    WalletKeys,
    keystore,
    reference,
)
from lightning_proxy.wallet.approval import LineApproval, read_lines
from lightning_proxy.wallet.device import DeviceKeys
from lightning_proxy.wallet.display import Output

app = typer.Typer(
    add_completion=False, help="The reference wallet: keys here, a place in the network at a relay."
)
app.command("channels")(wallet_channels.channels)
app.command("open")(wallet_channels.open_channel)
app.command("slots")(wallet_slots.slots)
app.command("leave-slots")(wallet_slots.leave)
app.command("remove-slot")(wallet_slots.remove)
app.command("wake")(wallet_away.wake)
app.command("presence")(wallet_away.presence)
app.command("devices")(wallet_away.devices)
app.command("device-key")(wallet_away.make_device_key)
app.command("add-device")(wallet_away.add_device)
app.command("revoke-device")(wallet_away.revoke_device)
app.command("take-over")(wallet_away.take_over)


@app.callback()
def _configure() -> None:
    # Results go to stdout, so what the SDK logs must not.
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )


@app.command()
def create(
    file: WalletFile = DEFAULT_FILE, passphrase_file: PassphraseFile = None, json: Json = False
) -> None:
    """Make a new wallet, encrypted under a passphrase."""
    output = Output(json)
    passphrase = read_passphrase(passphrase_file, confirm=True)
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        keys = reference.create(file, passphrase)
    except (WalletError, OSError) as error:
        fail(output, error)
    output.result(
        {"node_id": keys.node_id.hex(), "file": str(file)},
        f"Created the wallet of node {keys.node_id.hex()} in {file}.",
    )


@app.command()
def info(file: WalletFile = DEFAULT_FILE, json: Json = False) -> None:
    """Show the wallet's node id and what it answered; needs no passphrase."""
    output = Output(json)

    async def work() -> None:
        node_id = keystore.read_node_id(file)
        async with Record(reference.record_path(file), node_id) as record:
            channels = await record.channel_indices()
            output.wallet(node_id, file, len(channels), await record.latest(20))

    run(output, work())


@app.command()
def connect(
    peer: Peer,
    relay: RelayUrl,
    file: WalletFile = DEFAULT_FILE,
    token: Token = None,
    passphrase_file: PassphraseFile = None,
    watch: Annotated[bool, typer.Option("--watch", help="Stay, and answer what comes.")] = False,
    approve: ApproveOption = Approve.ASK,
    policy: PolicyFile = None,
    chain: ChainUrl = None,
    json: Json = False,
) -> None:
    """Have the relay connect to a peer; the connection stays when this command ends."""
    output = Output(json)
    keys = load_keys(output, file, passphrase_file)
    if watch:
        rules = load_policy(output, policy)
        work = _watch(output, file, keys, relay, token, rules, approve, chain, peer)
        run(output, work, interrupted=0)
        return

    async def connect_only() -> None:
        # Without a signer: who is not asked about channels does not accept any.
        async with (
            Record(reference.record_path(file), keys.node_id) as record,
            Wallet(relay, keys, token=token, acknowledge=False) as wallet,
        ):
            session = await wallet.connect(peer)
            await record.remember_peer(session.peer.node_id, str(session.peer))
            output.connected(session)

    run(output, connect_only())


@app.command()
def watch(
    relay: RelayUrl,
    file: WalletFile = DEFAULT_FILE,
    token: Token = None,
    passphrase_file: PassphraseFile = None,
    device_key: DeviceKeyFile = None,
    approve: ApproveOption = Approve.ASK,
    policy: PolicyFile = None,
    chain: ChainUrl = None,
    json: Json = False,
) -> None:
    """Stay connected: show what happens, and answer what the relay asks.

    To peers with whom there are channels the wallet connects again by itself.
    With --device-key nobody is asked for the passphrase; a device that isn't
    given it only looks on.
    """
    output = Output(json)
    rules = load_policy(output, policy)
    device = None
    if device_key is None:
        keys = load_keys(output, file, passphrase_file)
    else:
        found = find_keys(output, file, passphrase_file)
        device = load_device(output, file, device_key, found)
        if found is None:
            run(output, _look_on(output, device, relay, token), interrupted=0)
            return
        keys = found
    work = _watch(output, file, keys, relay, token, rules, approve, chain, None, device)
    run(output, work, interrupted=0)


@app.command()
@visit
async def sessions(wallet: Wallet, output: Output) -> None:
    """List the wallet's sessions at the relay."""
    output.sessions(await wallet.sessions())


@app.command()
@visit
async def close(
    wallet: Wallet,
    output: Output,
    session: Annotated[str, typer.Argument(metavar="SESSION", help="A session's id.")],
) -> None:
    """Close the connection to a peer."""
    await wallet.close_session(session)
    output.result({"session_id": session}, f"Closed session {session}.")


async def _look_on(output: Output, device: DeviceKeys, relay: str, token: str | None) -> None:
    """Without the wallet's keys and its record: what comes is still to come to who has them."""
    async with Wallet(relay, device, token=token, acknowledge=False) as wallet:
        output.watching(device.node_id, relay)
        output.hint("Without the passphrase this device only looks on: it answers nothing.")
        async for event in wallet.events():
            output.event(event)


async def _watch(
    output: Output,
    file: Path,
    keys: WalletKeys,
    relay: str,
    token: str | None,
    policy: Policy,
    approve: Approve,
    chain: str | None,
    peer: str | None,
    device: DeviceKeys | None = None,
) -> None:
    approval = LineApproval(output.question)

    async def refuse(_: ChannelKeysRequest) -> bool:
        return False

    if approve is Approve.ASK:

        def take(line: str) -> None:
            hint = approval.take(line)
            if hint is not None:
                output.hint(hint)

        read_lines(sys.stdin.fileno(), take, approval.end)
    async with ReferenceWallet(
        file,
        keys,
        relay,
        policy=structs.replace(policy, approve_by_hand=approve is not Approve.POLICY),
        approve=refuse if approve is Approve.REFUSE else approval.approve,
        token=token,
        chain=chain,
        device=device,
    ) as wallet:
        output.watching(keys.node_id, relay)
        if peer is not None:
            output.connected(await wallet.connect(peer))
        async for event in wallet.watch():
            output.event(event)
