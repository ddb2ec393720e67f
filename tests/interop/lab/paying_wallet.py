"""A wallet program on the SDK: pays and asks for money when it is told to.

Reads one JSON object a line, ``{"id", "command", …}``, and prints the answer to each with its id:
``{"id", "result"}`` or ``{"id", "error"}``. The keystore is made when there is none yet.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import structlog

from lightning_proxy.wallet import Policy, WalletError
from lightning_proxy.wallet.files import create
from lightning_proxy.wallet.keys import WalletKeys
from lightning_proxy.wallet.keystore import load
from lightning_proxy.wallet.reference import ReferenceWallet

_PASSPHRASE = "the lab's"


class Program:
    def __init__(self, wallet: ReferenceWallet) -> None:
        self._wallet = wallet

    async def connect(self, peer: str) -> None:
        node_id = bytes.fromhex(peer.partition("@")[0])
        await self._wallet.client.sessions()
        if self._wallet.client.session_with(node_id) is None:
            await self._wallet.connect(peer)

    async def invoice(self, amount_msat: int) -> dict[str, str]:
        made = await self._wallet.create_invoice(amount_msat)
        return {"text": made.text, "payment_hash": made.payment_hash.hex()}

    async def pay(self, text: str) -> str:
        return (await self._wallet.pay(text)).status

    async def payments(self) -> dict[str, str]:
        return {each.payment_hash.hex(): each.status for each in await self._wallet.payments()}

    async def htlcs(self) -> int:
        """How many are under way."""
        return sum(
            each.outgoing_htlcs + each.incoming_htlcs
            for each in (await self._wallet.balances()).values()
        )

    async def obey(self, line: str) -> None:
        words = json.loads(line)
        answer: dict[str, Any] = {"id": words.pop("id")}
        try:
            answer["result"] = await getattr(self, words.pop("command"))(**words)
        except WalletError as error:
            answer["error"] = str(error)
        print(json.dumps(answer), flush=True)


async def _watch(wallet: ReferenceWallet) -> None:
    async for event in wallet.watch():
        print(event, file=sys.stderr, flush=True)


def keys_in(path: Path) -> WalletKeys:
    if not path.exists():
        create(path, _PASSPHRASE, cost=10)
    return load(path, _PASSPHRASE)


async def main(path: Path, keys: WalletKeys, relay: str, chain: str) -> None:
    policy = Policy(chains=("regtest",), max_channels_a_day=1000)
    async with (
        ReferenceWallet(
            path, keys, relay, policy=policy, chain=chain, chain_interval=0.2
        ) as wallet,
        asyncio.TaskGroup() as tasks,
    ):
        program = Program(wallet)
        watching = tasks.create_task(_watch(wallet))
        print(json.dumps({"node_id": keys.node_id.hex()}), flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            tasks.create_task(program.obey(line))
        watching.cancel()


if __name__ == "__main__":
    # Standard output is for answers.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    keystore = Path(sys.argv[1])
    asyncio.run(main(keystore, keys_in(keystore), sys.argv[2], sys.argv[3]))
