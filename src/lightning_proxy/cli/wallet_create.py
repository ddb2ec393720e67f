"""`lightning-proxy wallet create`: a new wallet's files."""

from lightning_proxy.cli.wallet_options import DEFAULT_FILE, Json, PassphraseFile, WalletFile, fail
from lightning_proxy.cli.wallet_secrets import read_passphrase
from lightning_proxy.wallet import files
from lightning_proxy.wallet.errors import WalletError
from lightning_proxy.wallet.printer import Printer


def create(
    file: WalletFile = DEFAULT_FILE, passphrase_file: PassphraseFile = None, json: Json = False
) -> None:
    """Make a new wallet, encrypted under a passphrase."""
    output = Printer(json)
    passphrase = read_passphrase(passphrase_file, confirm=True)
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        keys = files.create(file, passphrase)
    except (WalletError, OSError) as error:
        fail(output, error)
    output.result(
        {"node_id": keys.node_id.hex(), "file": str(file)},
        f"Created the wallet of node {keys.node_id.hex()} in {file}.",
    )
