"""`lightning-proxy wallet payments`: what came in and what went out."""

from lightning_proxy.cli.wallet_options import DEFAULT_FILE, Json, WalletFile
from lightning_proxy.cli.wallet_run import run
from lightning_proxy.wallet.display import Output
from lightning_proxy.wallet.keyfile import read_node_id, record_path
from lightning_proxy.wallet.moving.history import payments_in
from lightning_proxy.wallet.record import Record


def payments(file: WalletFile = DEFAULT_FILE, json: Json = False) -> None:
    """List invoices and payments, by the wallet's own record; needs no passphrase.

    Those that are under way are waiting (not offered yet) or pending; an
    invoice is open, taken (its money is on the way), paid or expired.
    """
    output = Output(json)

    async def work() -> None:
        async with Record(record_path(file), read_node_id(file)) as record:
            output.payments(await record.change(payments_in))

    run(output, work())
