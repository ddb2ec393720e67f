"""`lightning-proxy wallet create` and `info`: the wallet's own files, and nobody else."""

from lightning_proxy.cli.wallet_options import (
    DEFAULT_FILE,
    Json,
    PassphraseFile,
    WalletFile,
    fail,
    read_passphrase,
    run,
)
from lightning_proxy.wallet import files, keystore
from lightning_proxy.wallet.display import Output
from lightning_proxy.wallet.errors import WalletError
from lightning_proxy.wallet.record import Record


def create(
    file: WalletFile = DEFAULT_FILE, passphrase_file: PassphraseFile = None, json: Json = False
) -> None:
    """Make a new wallet, encrypted under a passphrase."""
    output = Output(json)
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


def info(file: WalletFile = DEFAULT_FILE, json: Json = False) -> None:
    """Show the wallet's node id and what it answered; needs no passphrase."""
    output = Output(json)

    async def work() -> None:
        node_id = keystore.read_node_id(file)
        async with Record(files.record_path(file), node_id) as record:
            channels = await record.channel_indices()
            output.wallet(node_id, file, len(channels), await record.latest(20))

    run(output, work())
