"""`lightning-proxy wallet wake`, `presence`, `devices` …: what holds while the wallet is away."""

from operator import attrgetter
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from lightning_proxy.cli.visit import visit, visit_as_owner
from lightning_proxy.cli.wallet_options import DEFAULT_FILE, Json, WalletFile, fail
from lightning_proxy.cli.wallet_relay_options import public_key
from lightning_proxy.rpc import (
    AddDevice,
    DeviceInfo,
    DeviceRight,
    Devices,
    Done,
    Lease,
    PresencePolicy,
    RemoveWakeTarget,
    RevokeDevice,
    SessionInfo,
    SetPresence,
    TakeOver,
    WakeByWebhook,
    WakeTarget,
    WakeTargets,
    WakeTest,
)
from lightning_proxy.wallet import Wallet, WalletError, keystore
from lightning_proxy.wallet.device import DeviceKeys
from lightning_proxy.wallet.display import Output
from lightning_proxy.wallet.lists import every


def _device_key(value: str) -> str:
    return public_key(value, "a device's key")


Key: TypeAlias = Annotated[
    str, typer.Argument(metavar="KEY", callback=_device_key, help="The device's public key.")
]


@visit
async def wake(
    wallet: Wallet,
    output: Output,
    webhook: Annotated[
        str | None, typer.Option(metavar="URL", help="Be woken by a POST to this URL, too.")
    ] = None,
    remove: Annotated[
        str | None, typer.Option(metavar="ID", help="Be woken there no more.")
    ] = None,
    test: Annotated[bool, typer.Option("--test", help="Be woken now, everywhere.")] = False,
) -> None:
    """List where the wallet is woken, and change it.

    Web Push is for browsers: a page hands its subscription over by itself.
    """
    if webhook is not None:
        await wallet.request("wake_by_webhook", WakeByWebhook(webhook), WakeTarget)
    if remove is not None:
        await wallet.request("remove_wake_target", RemoveWakeTarget(remove), Done)
    if test:
        targets = await wallet.request("test_wake", WakeTest(), list[WakeTarget])
    else:
        targets = await every(wallet.request, "wake_targets", WakeTargets, WakeTarget)
        targets.sort(key=attrgetter("created"))
    output.wake_targets(targets)


@visit
async def presence(
    wallet: Wallet,
    output: Output,
    session: Annotated[str, typer.Argument(metavar="SESSION", help="A session's id.")],
    policy: Annotated[PresencePolicy, typer.Argument(help="What is to become of it.")],
    seconds: Annotated[
        float, typer.Option(min=0, max=86_400, help="How long the relay waits for the wallet.")
    ] = 30.0,
) -> None:
    """Choose what becomes of a session while the wallet is away.

    stay: it is held. disconnect: it is closed when the wallet is needed and
    does not come. attended: it is held only while a device is there.
    """
    wanted = SetPresence(session_id=session, policy=policy, seconds=seconds)
    info = await wallet.request("set_presence", wanted, SessionInfo)
    output.result(
        {"session_id": info.session_id, "presence": info.presence.value},
        f"While the wallet is away, session {info.session_id}: {info.presence.value}.",
    )


@visit
async def devices(wallet: Wallet, output: Output) -> None:
    """List the wallet's devices at the relay, revoked ones too."""
    listed = await every(wallet.request, "devices", Devices, DeviceInfo)
    output.devices(sorted(listed, key=attrgetter("created")))


def make_device_key(
    key_file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the new key goes.")],
    file: WalletFile = DEFAULT_FILE,
    json: Json = False,
) -> None:
    """Make a key for a device of this wallet's; add-device lets it in."""
    output = Output(json)
    try:
        keys = DeviceKeys.create(key_file, keystore.read_node_id(file))
    except WalletError as error:
        fail(output, error)
    output.result(
        {"device_key": keys.device_key.hex(), "file": str(key_file)},
        f"Made {key_file}; its public key is {keys.device_key.hex()}.",
    )


@visit_as_owner
async def add_device(
    wallet: Wallet,
    output: Output,
    key: Key,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What you call it.")],
    rights: Annotated[
        list[DeviceRight] | None,
        typer.Option("--right", help="What it may do, again for each; else all three."),
    ] = None,
) -> None:
    """Let a device act for this wallet, by its own key."""
    wanted = AddDevice(device_key=key, name=name, rights=rights or list(DeviceRight))
    output.devices([await wallet.request("add_device", wanted, DeviceInfo)])


@visit_as_owner
async def revoke_device(
    wallet: Wallet,
    output: Output,
    key: Key,
) -> None:
    """Let a device in no more; if it is there, it is put out."""
    await wallet.request("revoke_device", RevokeDevice(key), Done)
    output.result({"device_key": key}, f"Device {key} is out.")


@visit
async def take_over(
    wallet: Wallet,
    output: Output,
    channel: Annotated[
        str, typer.Argument(metavar="CHANNEL", help="A channel's id, the temporary one will do.")
    ],
) -> None:
    """Settle for a channel from this device on, and no longer from the one that did."""
    lease = await wallet.request("take_over", TakeOver(channel), Lease)
    output.result(
        {"channel_id": channel, "fencing": lease.fencing},
        f"Channel {channel} is this device's now (fencing number {lease.fencing}).",
    )
