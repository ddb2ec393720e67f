"""`lightning-proxy wallet`: the reference wallet on the command line."""

from importlib import import_module
from typing import Any, Final

import typer

from lightning_proxy.cli.lazy import LazyCommands

#: Of each command: its module here and its function there, and what the list says of it.
COMMANDS: Final = {
    "create": ("wallet_create", "create", "Make a new wallet, encrypted under a passphrase."),
    "info": ("wallet_info", "info", "Show the wallet's node id and what it answered."),
    "connect": ("wallet_connect", "connect", "Have the relay connect to a peer."),
    "watch": ("wallet_connect", "watch", "Stay connected, and answer what the relay asks."),
    "sessions": ("wallet_connect", "sessions", "List the wallet's sessions at the relay."),
    "close": ("wallet_connect", "close", "Close the connection to a peer."),
    "channels": ("wallet_channels", "channels", "List the channels of the wallet's record."),
    "open": ("wallet_open", "open_channel", "Open a channel to a peer."),
    "invoice": ("wallet_invoice", "invoice", "Ask for a payment."),
    "pay": ("wallet_pay", "pay", "Pay an invoice."),
    "payments": ("wallet_payments", "payments", "List what was asked for and what was paid."),
    "slots": ("wallet_slots", "slots", "List the key slots that were left at the relay."),
    "leave-slots": ("wallet_slots", "leave", "Leave key slots, for channels while asleep."),
    "remove-slot": ("wallet_slots", "remove", "Take a key slot back."),
    "wake": ("wallet_away", "wake", "Show and change where the wallet is woken."),
    "presence": ("wallet_away", "presence", "Say what becomes of a session while away."),
    "devices": ("wallet_away", "devices", "List the devices that act for the wallet."),
    "device-key": ("wallet_away", "make_device_key", "Make a key for a device."),
    "add-device": ("wallet_away", "add_device", "Let a device act for the wallet."),
    "revoke-device": ("wallet_away", "revoke_device", "Shut a device out."),
    "take-over": ("wallet_away", "take_over", "Settle for a channel by this device from now on."),
}


class Commands(LazyCommands):
    commands_by_name = {name: sentence for name, (_, _, sentence) in COMMANDS.items()}  # noqa: RUF012

    @classmethod
    def load(cls, name: str) -> Any:
        module, function, _ = COMMANDS[name]
        one = typer.Typer(add_completion=False)
        one.command(name)(getattr(import_module(f"lightning_proxy.cli.{module}"), function))
        return typer.main.get_command(one)


app = typer.Typer(
    cls=Commands,
    add_completion=False,
    no_args_is_help=True,
    help="The reference wallet: keys here, a place in the network at a relay.",
)


@app.callback()
def _group() -> None:
    """Commands are all that there is."""
