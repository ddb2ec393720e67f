"""Makes a command of what a wallet does on one visit to its relay."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, fields
from inspect import Parameter, Signature, signature
from typing import Any, TypeAlias

from lightning_proxy.cli.wallet_options import DEFAULT_FILE, Json, PassphraseFile, WalletFile
from lightning_proxy.cli.wallet_relay_options import DeviceKeyFile, RelayUrl, Token
from lightning_proxy.cli.wallet_run import run_online
from lightning_proxy.cli.wallet_secrets import load_device, load_keys
from lightning_proxy.wallet import Wallet
from lightning_proxy.wallet.display import Output

#: Takes a `Wallet` that is there and an `Output`; then what the command's user says.
Work: TypeAlias = Callable[..., Awaitable[None]]
Command: TypeAlias = Callable[..., None]


@dataclass(frozen=True, kw_only=True)
class _Visit:
    """The options of every such command: where the wallet goes, and as whom."""

    relay: RelayUrl
    file: WalletFile = DEFAULT_FILE
    token: Token = None
    passphrase_file: PassphraseFile = None
    device_key: DeviceKeyFile = None
    json: Json = False


def visit(work: Work) -> Command:
    """The command that does this at the relay, by the node key or as a device, and leaves.

    Its arguments and options are those of `work` behind the first two, and those of every visit.
    What waits for the wallet there is for `watch`. A device comes without the wallet's keys.
    """
    return _command(work, *(field.name for field in fields(_Visit)))


def visit_as_owner(work: Work) -> Command:
    """As `visit`, for what no device may do."""
    return _command(work, *(field.name for field in fields(_Visit) if field.name != "device_key"))


def _command(work: Work, *options: str) -> Command:
    def command(**given: Any) -> None:
        chosen = _Visit(**{name: given.pop(name) for name in options})
        output = Output(chosen.json)
        keys = (
            load_keys(output, chosen.file, chosen.passphrase_file)
            if chosen.device_key is None
            else load_device(output, chosen.file, chosen.device_key)
        )

        async def there() -> None:
            async with Wallet(chosen.relay, keys, token=chosen.token, acknowledge=False) as wallet:
                await work(wallet, output, **given)

        run_online(output, there())

    own = list(signature(work).parameters.values())[2:]
    shared = [signature(_Visit).parameters[name] for name in options]
    parameters = [each.replace(kind=Parameter.KEYWORD_ONLY) for each in (*own, *shared)]
    # What typer reads.
    command.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in parameters}
    command.__name__ = work.__name__
    command.__doc__ = work.__doc__
    return command
