"""A Bitcoin chain of our own: btcd on regtest, its blocks and its money under our key."""

import base64
import hashlib
import ssl
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
from coincurve import PrivateKey

from . import build
from .process import Child, LabError, Part, free_port, until

# On regtest, btcd enforces segwit from here, and lnd wants segwit.
FIRST_BLOCKS = 500
COINBASE_MATURITY = 100
FEE_SAT = 5_000
SIGHASH_ALL = 1


def push(data: bytes) -> bytes:
    """A script's push of up to 75 bytes, which is also a short string with its length."""
    assert len(data) <= 75
    return bytes([len(data)]) + data


def spend(
    outpoint: bytes, script: bytes, outputs: list[tuple[int, bytes]], key: PrivateKey
) -> bytes:
    """A signed transaction that spends one pay-to-public-key output.

    `outputs` are pairs of an amount in sat and a script; `script` is that of the spent output.
    """

    def serialize(script_sig: bytes) -> bytes:
        inputs = b"\x01" + outpoint + push(script_sig) + b"\xff" * 4
        paid = b"".join(sat.to_bytes(8, "little") + push(pays) for sat, pays in outputs)
        return (2).to_bytes(4, "little") + inputs + bytes([len(outputs)]) + paid + bytes(4)

    signed = serialize(script) + SIGHASH_ALL.to_bytes(4, "little")
    digest = hashlib.sha256(hashlib.sha256(signed).digest()).digest()
    signature = key.sign(digest, hasher=None) + bytes([SIGHASH_ALL])
    return serialize(push(signature))


def spend_segwit(
    outpoint: bytes,
    key_hash: bytes,
    amount_sat: int,
    outputs: list[tuple[int, bytes]],
    key: PrivateKey,
) -> bytes:
    """A signed transaction that spends one P2WPKH output of `amount_sat` (BIP 143)."""

    def double(data: bytes) -> bytes:
        return hashlib.sha256(hashlib.sha256(data).digest()).digest()

    version, sequence, locktime = (2).to_bytes(4, "little"), b"\xff" * 4, bytes(4)
    paid = b"".join(sat.to_bytes(8, "little") + push(pays) for sat, pays in outputs)
    code = push(b"\x76\xa9\x14" + key_hash + b"\x88\xac")
    amount = amount_sat.to_bytes(8, "little")
    hash_type = SIGHASH_ALL.to_bytes(4, "little")
    signed = (version, double(outpoint), double(sequence), outpoint, code, amount, sequence)
    digest = double(b"".join((*signed, double(paid), locktime, hash_type)))
    signature = key.sign(digest, hasher=None) + bytes([SIGHASH_ALL])
    inputs = b"\x01" + outpoint + b"\x00" + sequence
    witness = b"\x02" + push(signature) + push(key.public_key.format())
    count = bytes([len(outputs)])
    return version + b"\x00\x01" + inputs + count + paid + witness + locktime


class Btcd(Part):
    """One btcd; ``async with Btcd(folder) as btcd`` gives it with the first blocks mined."""

    network = "regtest"

    def __init__(self, directory: Path) -> None:
        self.rpc_user = "lab"
        self.rpc_password = "lab"
        self.rpc_address = ""
        self.rpc_cert = directory / "btcd-rpc.cert"
        self._directory = directory
        self._key = PrivateKey()
        self._script = push(self._key.public_key.format()) + b"\xac"  # OP_CHECKSIG
        self._coinbase_blocks: list[str] = []
        self._session: aiohttp.ClientSession

    async def _start(self, stack: AsyncExitStack) -> None:
        host = "127.0.0.1"
        self.rpc_address = f"{host}:{free_port(host)}"
        folder = self._directory / "btcd"
        folder.mkdir()
        self.child = await Child.start(
            "btcd",
            [
                build.home("lnd") / "bin/btcd",
                f"--{self.network}",
                f"--configfile={folder / 'none.conf'}",
                f"--datadir={folder / 'data'}",
                f"--logdir={folder / 'logs'}",
                f"--rpcuser={self.rpc_user}",
                f"--rpcpass={self.rpc_password}",
                f"--rpccert={self.rpc_cert}",
                f"--rpckey={self._directory / 'btcd-rpc.key'}",
                f"--rpclisten={self.rpc_address}",
                f"--listen={host}:{free_port(host)}",
                # A public key stands for an address: the coinbase pays to it.
                f"--miningaddr={self._key.public_key.format().hex()}",
                "--nodnsseed",
                "--txindex",
                "--trickleinterval=100ms",
            ],
            self._directory / "btcd.log",
        )
        stack.push_async_callback(self.child.stop)

        async def trusted() -> ssl.SSLContext:
            return ssl.create_default_context(cafile=self.rpc_cert)

        # The file appears before it is whole: an error here is a reason to try again.
        trust = await until("btcd's certificate", trusted, self.child)
        secret = base64.b64encode(f"{self.rpc_user}:{self.rpc_password}".encode()).decode()
        self._session = await stack.enter_async_context(
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=trust),
                headers={"Authorization": f"Basic {secret}"},
            )
        )

        async def answering() -> bool:
            return bool(await self.rpc("getbestblockhash"))

        await until("btcd's RPC", answering, self.child)
        self._coinbase_blocks = await self.mine(FIRST_BLOCKS)
        del self._coinbase_blocks[-COINBASE_MATURITY:]

    async def rpc(self, method: str, *params: object) -> Any:
        """One JSON-RPC call; LabError when btcd refuses."""
        request = {"jsonrpc": "1.0", "id": 1, "method": method, "params": params}
        try:
            async with self._session.post(f"https://{self.rpc_address}", json=request) as response:
                answer = await response.json(content_type=None)
        except aiohttp.ClientError as error:
            raise LabError(f"btcd {method}: {error}") from error
        if answer["error"] is not None:
            raise LabError(f"btcd {method}: {answer['error']}")
        return answer["result"]

    async def mine(self, blocks: int) -> list[str]:
        """Mines at once; returns the hashes of the new blocks."""
        hashes: list[str] = await self.rpc("generate", blocks)
        return hashes

    @property
    def source_url(self) -> str:
        """The chain as `open_source` finds it."""
        password = f"{self.rpc_user}:{self.rpc_password}"
        return f"btcd://{password}@{self.rpc_address}?cert={self.rpc_cert}"

    async def fund(self, address: str, amount_sat: int) -> str:
        """Pays to a segwit address out of one early block's 50 bitcoin; returns the txid.

        The payment waits in the mempool for the next block.
        """
        target = await self.rpc("validateaddress", address)
        version = target["witness_version"]
        script = bytes([0x50 + version if version else 0])
        script += push(bytes.fromhex(target["witness_program"]))
        return await self.send(await self.payment([(amount_sat, script)]))

    async def payment(self, outputs: list[tuple[int, bytes]]) -> bytes:
        """A signed transaction that pays sats to scripts, which nobody has heard of yet."""
        block = await self.rpc("getblock", self._coinbase_blocks.pop(0))
        txid = block["tx"][0]
        coinbase_sat = round((await self.rpc("gettxout", txid, 0))["value"] * 100_000_000)
        change_sat = coinbase_sat - sum(sat for sat, _ in outputs) - FEE_SAT
        outpoint = bytes.fromhex(txid)[::-1] + bytes(4)
        return spend(outpoint, self._script, [*outputs, (change_sat, self._script)], self._key)

    async def segwit_payment(self, outputs: list[tuple[int, bytes]]) -> bytes:
        """The same out of a segwit output, which confirms meanwhile: its id is fixed."""
        key_hash = hashlib.new("ripemd160", hashlib.sha256(self._public_key).digest()).digest()
        coin_sat = sum(sat for sat, _ in outputs) + FEE_SAT
        coin = await self.payment([(coin_sat, b"\x00\x14" + key_hash)])
        await self.send(coin)
        await self.mine(1)
        txid = hashlib.sha256(hashlib.sha256(coin).digest()).digest()
        return spend_segwit(txid + bytes(4), key_hash, coin_sat, outputs, self._key)

    async def send(self, transaction: bytes) -> str:
        """Broadcasts; returns the txid."""
        sent: str = await self.rpc("sendrawtransaction", transaction.hex())
        return sent

    @property
    def _public_key(self) -> bytes:
        return self._key.public_key.format()
