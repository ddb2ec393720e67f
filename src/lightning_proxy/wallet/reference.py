"""The reference wallet: a keystore, a record, a policy and the SDK made into one program."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, Self

import structlog

from lightning_proxy.bolt.messages import Error, FundingCreated
from lightning_proxy.bolt.opening import channel_id_of
from lightning_proxy.rpc import Done, Send
from lightning_proxy.wallet import keystore
from lightning_proxy.wallet.client import Wallet
from lightning_proxy.wallet.connection import OnFrame
from lightning_proxy.wallet.errors import WalletError
from lightning_proxy.wallet.events import Event, MessageReceived
from lightning_proxy.wallet.keys import WalletKeys
from lightning_proxy.wallet.policy import Policy
from lightning_proxy.wallet.record import Record
from lightning_proxy.wallet.signer import Approve, KeySigner

_log = structlog.get_logger()

#: An opening ends here for now; the peer is told, so that it frees its funds.
CANNOT_SIGN: Final = b"this wallet cannot sign commitments yet"


def record_path(path: Path) -> Path:
    """Where the record of the wallet in this file is: beside it."""
    return path.with_name(f"{path.name}.record")


def create(
    path: Path, passphrase: str, *, keys: WalletKeys | None = None, cost: int | None = None
) -> WalletKeys:
    """Make a new wallet, its keys' file and its record; never in another's place.

    `cost` is the keystore's. Raises `KeystoreError`, `RecordError`.
    """
    keys = keys or WalletKeys.generate()
    # The record first: keys without their record can't be used, and a record alone hurts nobody.
    Record.create(record_path(path), keys.node_id)
    try:
        keystore.create(path, keys, passphrase, cost=cost or keystore.DEFAULT_COST)
    except BaseException:
        record_path(path).unlink()
        raise
    return keys


class ReferenceWallet:
    """Use as an async context manager; raises what entering `Wallet` raises, and `RecordError`.

    `client` is the SDK's wallet. `keys` come from the keystore in `path`.
    """

    client: Wallet
    record: Record

    def __init__(
        self,
        path: Path,
        keys: WalletKeys,
        relay_url: str,
        *,
        policy: Policy | None = None,
        approve: Approve | None = None,
        token: str | None = None,
        on_frame: OnFrame | None = None,
    ) -> None:
        self._path = path
        self._keys = keys
        self._relay_url = relay_url
        self._policy = policy or Policy()
        self._approve = approve
        self._token = token
        self._on_frame = on_frame

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self.record = await stack.enter_async_context(
                Record(record_path(self._path), self._keys.node_id)
            )
            self.client = await stack.enter_async_context(
                Wallet(
                    self._relay_url,
                    self._keys,
                    signer=KeySigner(self._keys, self._policy, self.record, self._approve),
                    token=self._token,
                    on_frame=self._on_frame,
                )
            )
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def watch(self) -> AsyncIterator[Event]:
        """The wallet's main loop: does what events call for, and hands each on to be shown.

        Ends with the wallet; raises the `WalletError` by which it ended.
        """
        async for event in self.client.events():
            if isinstance(event, MessageReceived):
                await self._received(event)
            yield event

    async def _received(self, event: MessageReceived) -> None:
        message = event.received.message
        if not isinstance(message, FundingCreated):
            return
        final_id = channel_id_of(message.funding_txid, message.funding_output_index)
        # BOLT #1: before funding_signed the fundee names the temporary id. LDK knows the channel
        # by its final one from funding_created on, and would wait for ever.
        for channel_id in (message.temporary_channel_id, final_id):
            error = Error(channel_id=channel_id, data=CANNOT_SIGN).encode()
            try:
                await self.client.request("send", Send(event.session_id, error.hex()), Done)
            except WalletError as failure:
                _log.info("error_not_sent", reason=str(failure))
