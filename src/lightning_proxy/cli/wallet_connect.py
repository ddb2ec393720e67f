"""`lightning-proxy wallet connect`, `watch`, `sessions`, `close`: peers, and staying online."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from msgspec import structs

from lightning_proxy.cli.visit import visit
from lightning_proxy.cli.wallet_options import DEFAULT_FILE, Json, PassphraseFile, WalletFile
from lightning_proxy.cli.wallet_relay_options import (
    Approve,
    ApproveOption,
    ChainUrl,
    DeviceKeyFile,
    Peer,
    PolicyFile,
    RelayUrl,
    Token,
)
from lightning_proxy.cli.wallet_run import run_online
from lightning_proxy.cli.wallet_secrets import find_keys, load_device, load_keys, load_policy
from lightning_proxy.wallet import (
    ChannelKeysRequest,
    Policy,
    Record,
    ReferenceWallet,
    Wallet,
    WalletKeys,
    files,
)
from lightning_proxy.wallet.approval import LineApproval, read_lines
from lightning_proxy.wallet.device import DeviceKeys
from lightning_proxy.wallet.display import Output


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
        run_online(output, work, interrupted=0)
        return

    async def connect_only() -> None:
        # Without a signer: who is not asked about channels does not accept any.
        async with (
            Record(files.record_path(file), keys.node_id) as record,
            Wallet(relay, keys, token=token, acknowledge=False) as wallet,
        ):
            session = await wallet.connect(peer)
            await record.remember_peer(session.peer.node_id, str(session.peer))
            output.connected(session)

    run_online(output, connect_only())


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
            run_online(output, _look_on(output, device, relay, token), interrupted=0)
            return
        keys = found
    work = _watch(output, file, keys, relay, token, rules, approve, chain, None, device)
    run_online(output, work, interrupted=0)


@visit
async def sessions(wallet: Wallet, output: Output) -> None:
    """List the wallet's sessions at the relay."""
    output.sessions(await wallet.sessions())


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
