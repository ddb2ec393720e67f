"""`lightning-proxy wallet invoice`: asking for a payment."""

from contextlib import AsyncExitStack
from typing import Annotated

import typer

from lightning_proxy.chain import open_source
from lightning_proxy.cli.wallet_options import DEFAULT_FILE, Json, PassphraseFile, WalletFile
from lightning_proxy.cli.wallet_relay_options import ChainUrl, PolicyFile
from lightning_proxy.cli.wallet_run import run_online
from lightning_proxy.cli.wallet_secrets import load_keys, load_policy
from lightning_proxy.wallet import OwnChain, Record, files
from lightning_proxy.wallet.display import Output
from lightning_proxy.wallet.moving.moves import Moves
from lightning_proxy.wallet.moving.purse import DEFAULT_EXPIRY, Purse


def invoice(
    amount: Annotated[
        int,
        typer.Argument(
            metavar="AMOUNT_SAT", min=0, help="What to ask for, in sat; 0: what the payer likes."
        ),
    ],
    file: WalletFile = DEFAULT_FILE,
    memo: Annotated[str, typer.Option("--memo", help="What it is for; the payer reads it.")] = "",
    expiry: Annotated[
        int, typer.Option("--expiry", min=1, metavar="SECONDS", help="How long it can be paid.")
    ] = DEFAULT_EXPIRY,
    passphrase_file: PassphraseFile = None,
    policy: PolicyFile = None,
    chain: ChainUrl = None,
    json: Json = False,
) -> None:
    """Ask for a payment: prints an invoice (BOLT 11), for the payer.

    It is paid while the wallet watches, or when it is woken: this command
    itself waits for nothing, and asks no relay.
    """
    output = Output(json)
    rules = load_policy(output, policy)
    keys = load_keys(output, file, passphrase_file)

    async def work() -> None:
        async with AsyncExitStack() as stack:
            record = await stack.enter_async_context(Record(files.record_path(file), keys.node_id))
            own = None
            if chain is not None:
                source = await open_source(chain)
                stack.push_async_callback(source.close)
                own = OwnChain(source)
            purse = Purse(Moves(keys, rules, record, own), own, lambda _: None)
            output.invoice(await purse.create_invoice(1000 * amount or None, memo, expiry=expiry))

    run_online(output, work())
