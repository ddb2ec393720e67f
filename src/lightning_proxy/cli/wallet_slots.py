"""`lightning-proxy wallet slots`, `leave-slots` and `remove-slot`: channels while it sleeps."""

import math
from typing import Annotated, Final

import typer

from lightning_proxy.bolt.opening import LARGE_CHANNEL_SAT, MAXIMUM_MONEY_SAT
from lightning_proxy.cli.visit import visit
from lightning_proxy.cli.wallet_options import DEFAULT_FILE, Json, PassphraseFile, WalletFile
from lightning_proxy.cli.wallet_relay_options import PolicyFile, RelayUrl, Token, public_key
from lightning_proxy.cli.wallet_run import run_online
from lightning_proxy.cli.wallet_secrets import load_keys, load_policy
from lightning_proxy.rpc import Done, RemoveSlot, SlotInfo, SlotPolicy, Slots
from lightning_proxy.wallet import Record, Wallet, files
from lightning_proxy.wallet.display import Output
from lightning_proxy.wallet.lists import every
from lightning_proxy.wallet.policy import CHANNEL_TYPES
from lightning_proxy.wallet.slots import feature_maps, leave_slots

#: As `rpc.AddSlots` has it.
_MAX_AT_ONCE: Final = 100


def _peers(values: list[str]) -> list[str]:
    return [public_key(value, "a node id") for value in values]


def _channel_types(values: list[str]) -> list[str]:
    if unknown := set(values) - CHANNEL_TYPES.keys():
        names = " or ".join(CHANNEL_TYPES)
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: write {names}")
    return values


@visit
async def slots(wallet: Wallet, output: Output) -> None:
    """List the wallet's key slots at the relay: the free ones, and those used last."""
    listed = await every(wallet.request, "slots", Slots, SlotInfo)
    output.slots(sorted(listed, key=lambda slot: (-(slot.used or math.inf), slot.created)))


def leave(
    count: Annotated[
        int, typer.Argument(metavar="COUNT", min=1, max=_MAX_AT_ONCE, help="How many.")
    ],
    relay: RelayUrl,
    file: WalletFile = DEFAULT_FILE,
    token: Token = None,
    passphrase_file: PassphraseFile = None,
    max_sat: Annotated[
        int,
        typer.Option(
            "--max-sat", min=1, max=MAXIMUM_MONEY_SAT, help="The largest channel, in sat."
        ),
    ] = LARGE_CHANNEL_SAT - 1,
    min_sat: Annotated[
        int, typer.Option("--min-sat", min=0, help="The smallest channel, in sat.")
    ] = 0,
    peers: Annotated[
        list[str] | None,
        typer.Option(
            "--peer",
            metavar="NODE_ID",
            callback=lambda values: _peers(values or []),
            help="A peer that may use them, again for each; else any that is connected.",
        ),
    ] = None,
    channel_types: Annotated[
        list[str] | None,
        typer.Option(
            "--type",
            metavar="TYPE",
            callback=lambda values: _channel_types(values or []),
            help="anchors or static_remotekey; both, if you say nothing.",
        ),
    ] = None,
    policy: PolicyFile = None,
    json: Json = False,
) -> None:
    """Let the relay accept channels while the wallet sleeps, each with keys of its own.

    What the wallet's policy does not accept, no slot is for. A watching
    wallet checks afterwards what was done in its name, before it signs.
    """
    output = Output(json)
    rules = load_policy(output, policy)
    keys = load_keys(output, file, passphrase_file)
    names = [name for name in CHANNEL_TYPES if not channel_types or name in channel_types]
    wanted = SlotPolicy(
        min_funding_sat=min_sat,
        max_funding_sat=max_sat,
        peers=peers or None,
        channel_types=feature_maps(names, scid_alias=True),
    )

    async def work() -> None:
        async with (
            Record(files.record_path(file), keys.node_id) as record,
            Wallet(relay, keys, token=token, acknowledge=False) as wallet,
        ):
            output.slots(await leave_slots(wallet, record, keys, rules, wanted, count))

    run_online(output, work())


@visit
async def remove(
    wallet: Wallet,
    output: Output,
    slot: Annotated[str, typer.Argument(metavar="SLOT", help="A slot's id.")],
) -> None:
    """Take back a key slot; its keys are not used again."""
    await wallet.request("remove_slot", RemoveSlot(slot), Done)
    output.result({"slot_id": slot}, f"Removed key slot {slot}.")
