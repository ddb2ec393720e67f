"""`lightning-proxy wallet channels`: what channels there are."""

from contextlib import AsyncExitStack

from lightning_proxy.cli.wallet_options import DEFAULT_FILE, Json, PassphraseFile, WalletFile
from lightning_proxy.cli.wallet_relay_options import ChainUrl, OptionalRelayUrl, PolicyFile, Token
from lightning_proxy.cli.wallet_run import run, run_online
from lightning_proxy.cli.wallet_secrets import load_keys, load_policy
from lightning_proxy.wallet.describe import OLD_COPY
from lightning_proxy.wallet.display import Output
from lightning_proxy.wallet.keyfile import read_node_id, record_path
from lightning_proxy.wallet.moving.ready import ready_in
from lightning_proxy.wallet.overview import overview
from lightning_proxy.wallet.record import Record


def channels(
    file: WalletFile = DEFAULT_FILE,
    chain: ChainUrl = None,
    relay: OptionalRelayUrl = None,
    token: Token = None,
    passphrase_file: PassphraseFile = None,
    policy: PolicyFile = None,
    json: Json = False,
) -> None:
    """List the wallet's channels, by its own record.

    How deep their funding is, the chain source says, or else the relay.
    Only --relay needs the passphrase.
    """
    output = Output(json)
    rules = load_policy(output, policy)
    keys = None if relay is None else load_keys(output, file, passphrase_file)

    async def work() -> None:
        node_id = read_node_id(file)
        async with AsyncExitStack() as stack:
            record = await stack.enter_async_context(Record(record_path(file), node_id))
            source = None
            if chain is not None:
                # Without it nothing here speaks HTTP, which takes long to import.
                from lightning_proxy.chain.opening import open_source  # noqa: PLC0415

                source = await open_source(chain)
                stack.push_async_callback(source.close)
            listed = []
            if relay is not None and keys is not None:
                from lightning_proxy.wallet.client import Wallet  # noqa: PLC0415 - as above

                wallet = await stack.enter_async_context(
                    Wallet(relay, keys, token=token, acknowledge=False)
                )
                listed = await wallet.channels()
            stored = await record.channels()
            ready = await record.change(ready_in)
            output.channels(
                await overview(stored, rules, source=source, listed=listed, ready=ready)
            )
            outdated = await record.outdated()
            if outdated is not None:
                output.hint(f"NOT IN THE RECORD: {outdated}.", OLD_COPY)

    (run if relay is None else run_online)(output, work())
