"""`lightning-proxy wallet info`: what can be read without a passphrase."""

from typing import Final

from lightning_proxy.cli.wallet_options import DEFAULT_FILE, Json, WalletFile, fail
from lightning_proxy.wallet.answers import look
from lightning_proxy.wallet.errors import WalletError
from lightning_proxy.wallet.keyfile import read_node_id, record_path
from lightning_proxy.wallet.printer import Printer

#: Answers that are shown.
_LATEST: Final = 20


def info(file: WalletFile = DEFAULT_FILE, json: Json = False) -> None:
    """Show the wallet's node id and what it answered; needs no passphrase."""
    output = Printer(json)
    try:
        node_id = read_node_id(file)
        channels, latest = look(record_path(file), node_id, _LATEST)
    except WalletError as error:
        fail(output, error)
    output.wallet(node_id, file, channels, latest)
