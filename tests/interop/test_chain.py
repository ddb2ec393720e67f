"""What real nodes say of the blockchain: btcd, and Bitcoin Core with and without an index."""

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import aiohttp
import pytest
from btclib.b32 import address_from_witness
from btclib.tx import TxOut
from coincurve import PrivateKey

from lightning_proxy.bolt.signing import UnsignedTransaction, witness_signature
from lightning_proxy.chain import (
    BroadcastRejected,
    ChainError,
    ChainSource,
    Output,
    OutputWatch,
    open_source,
)
from tests.interop.lab import build
from tests.interop.lab.btcd import COINBASE_MATURITY, Btcd, push
from tests.interop.lab.process import Child, LabError, Part, free_port, until

AMOUNT_SAT = 1_234_567
FEE_SAT = 5_000


class Node(Protocol):
    """A node with money of its own, and its JSON-RPC for the tests."""

    child: Child

    async def rpc(self, method: str, *params: object) -> Any: ...

    async def mine(self, blocks: int) -> list[str]: ...

    async def fund(self, address: str, amount_sat: int) -> str: ...


def p2wsh(witness_script: bytes) -> bytes:
    return b"\x00" + push(hashlib.sha256(witness_script).digest())


def regtest_address(witness_script: bytes) -> str:
    return address_from_witness(0, hashlib.sha256(witness_script).digest(), "regtest")


class Bitcoind(Part):
    """One bitcoind without a wallet on regtest; its money is anybody's (OP_TRUE)."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.child: Child
        self.address = ""
        self.cookie = directory / "bitcoind/regtest/.cookie"
        self._directory = directory
        self._options = options
        self._session: aiohttp.ClientSession
        self._coinbase_blocks: list[str] = []
        self._mined = 0

    async def _start(self, stack: AsyncExitStack) -> None:
        host = "127.0.0.1"
        port = free_port(host)
        self.address = f"{host}:{port}"
        folder = self._directory / "bitcoind"
        folder.mkdir()
        self.child = await Child.start(
            "bitcoind",
            [
                build.home("bitcoind") / "bin/bitcoind",
                "-regtest",
                f"-datadir={folder}",
                f"-rpcport={port}",
                "-listen=0",
                "-printtoconsole",
                *self._options,
            ],
            self._directory / "bitcoind.log",
        )
        stack.push_async_callback(self.child.stop)
        self._session = await stack.enter_async_context(aiohttp.ClientSession())

        async def answering() -> bool:
            return bool(await self.rpc("getbestblockhash"))

        await until("bitcoind's RPC", answering, self.child)
        self._coinbase_blocks = await self.mine(COINBASE_MATURITY + 10)
        del self._coinbase_blocks[-COINBASE_MATURITY:]

    async def rpc(self, method: str, *params: object) -> Any:
        """One JSON-RPC call; LabError when bitcoind refuses."""
        user, password = self.cookie.read_text().split(":")
        credentials = aiohttp.encode_basic_auth(user, password)
        request = {"jsonrpc": "1.0", "id": 1, "method": method, "params": params}
        try:
            async with self._session.post(
                f"http://{self.address}", json=request, headers={"Authorization": credentials}
            ) as response:
                answer = await response.json(content_type=None)
        except aiohttp.ClientError as error:
            raise LabError(f"bitcoind {method}: {error}") from error
        if answer["error"] is not None:
            raise LabError(f"bitcoind {method}: {answer['error']}")
        return answer["result"]

    async def mine(self, blocks: int) -> list[str]:
        """Mines at once, each time to another script: so it never makes a block a second time."""
        self._mined += 1
        address = regtest_address(self._script(self._mined))
        hashes: list[str] = await self.rpc("generatetoaddress", blocks, address)
        return hashes

    async def fund(self, address: str, amount_sat: int) -> str:
        """Pays to an address out of one early coinbase."""
        block = await self.rpc("getblock", self._coinbase_blocks.pop(0), 2)
        (coinbase,) = block["tx"]
        coinbase_sat = round(coinbase["vout"][0]["value"] * 100_000_000)
        target = await self.rpc("validateaddress", address)
        payment = UnsignedTransaction.spending(
            bytes.fromhex(coinbase["txid"])[::-1],
            0,
            self._script(1),
            coinbase_sat,
            sequence=0xFFFFFFFF,
            locktime=0,
            outputs=[
                TxOut(amount_sat, bytes.fromhex(target["scriptPubKey"])),
                TxOut(coinbase_sat - amount_sat - FEE_SAT, p2wsh(self._script(1))),
            ],
        )
        sent: str = await self.rpc("sendrawtransaction", payment.serialize([]).hex())
        return sent

    @staticmethod
    def _script(count: int) -> bytes:
        return push(count.to_bytes(4)) + b"\x75\x51"  # OP_DROP OP_TRUE


@asynccontextmanager
async def btcd_node(lab: Path) -> AsyncIterator[tuple[Node, str]]:
    async with Btcd(lab) as btcd:
        credentials = f"{btcd.rpc_user}:{btcd.rpc_password}"
        yield btcd, f"btcd://{credentials}@{btcd.rpc_address}?cert={quote(str(btcd.rpc_cert))}"


@asynccontextmanager
async def bitcoind_node(lab: Path, *options: str) -> AsyncIterator[tuple[Node, str]]:
    async with Bitcoind(lab, *options) as node:
        yield node, f"bitcoind://{node.address}?cookie={quote(str(node.cookie))}"


@asynccontextmanager
async def indexed_bitcoind_node(lab: Path) -> AsyncIterator[tuple[Node, str]]:
    # By a password this time, with whatever a password may have.
    password = "p@ss:w/rd?#%"
    salted = hmac.digest(b"salt", password.encode(), "sha256").hex()
    async with Bitcoind(lab, "-txindex", f"-rpcauth=lab:salt${salted}") as node:
        yield node, f"bitcoind://lab:{quote(password, safe='')}@{node.address}"


NODES = {"btcd": btcd_node, "bitcoind": bitcoind_node, "bitcoind-txindex": indexed_bitcoind_node}


@pytest.fixture(params=NODES)
async def node_at(request: pytest.FixtureRequest, lab: Path) -> AsyncIterator[tuple[Node, str]]:
    async with NODES[request.param](lab) as node:
        yield node


@pytest.fixture
async def node(node_at: tuple[Node, str]) -> Node:
    return node_at[0]


@pytest.fixture
async def source(node_at: tuple[Node, str]) -> AsyncIterator[ChainSource]:
    source = await open_source(node_at[1])
    yield source
    await source.close()


class Money:
    """An output that only a key of ours can spend."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._key = PrivateKey()
        self.witness_script = push(self._key.public_key.format()) + b"\xac"  # OP_CHECKSIG
        self.txid = b""
        self.index = -1

    async def arrive(self) -> None:
        """Be paid; the payment waits in the mempool."""
        printed = await self._node.fund(regtest_address(self.witness_script), AMOUNT_SAT)
        self.txid = bytes.fromhex(printed)[::-1]
        self.index = 0

    def spend(self, fee_sat: int = FEE_SAT, key: PrivateKey | None = None) -> bytes:
        """A transaction that spends it."""
        outputs = [TxOut(AMOUNT_SAT - fee_sat, p2wsh(self.witness_script))]
        unsigned = UnsignedTransaction.spending(
            self.txid,
            self.index,
            self.witness_script,
            AMOUNT_SAT,
            sequence=0xFFFFFFFF,
            locktime=0,
            outputs=outputs,
        )
        signature = unsigned.sign((key or self._key).secret)
        return unsigned.serialize([witness_signature(signature)])

    async def expected(self, block: str, confirmations: int) -> Output:
        """What the node itself says of it, by other questions than the source asks."""
        found = await self._node.rpc("getblock", block, 1)
        return Output(
            scriptpubkey=p2wsh(self.witness_script),
            amount_sat=AMOUNT_SAT,
            confirmations=confirmations,
            block_height=found["height"],
            transaction_index=found["tx"].index(self.txid[::-1].hex()),
            spent=False,
        )


@pytest.fixture
async def money(node: Node) -> Money:
    money = Money(node)
    await money.arrive()
    return money


def spent(output: Output, confirmations: int) -> Output:
    return Output(
        output.scriptpubkey,
        output.amount_sat,
        confirmations,
        output.block_height,
        output.transaction_index,
        spent=True,
    )


async def test_from_the_mempool_until_spent(node: Node, source: ChainSource, money: Money) -> None:
    assert source.chain == "regtest"
    unconfirmed = Output(p2wsh(money.witness_script), AMOUNT_SAT, 0, None, None, spent=False)
    assert await source.output(money.txid, money.index) == unconfirmed
    assert await source.confirmations(money.txid) == 0

    (block,) = await node.mine(1)
    assert await source.output(money.txid, money.index) == await money.expected(block, 1)
    await node.mine(2)
    expected = await money.expected(block, 3)
    assert await source.output(money.txid, money.index) == expected
    assert await source.confirmations(money.txid) == 3
    tip = await source.tip()
    assert expected.block_height == tip.height - 2
    assert tip.block_hash.hex() == await node.rpc("getbestblockhash")

    spending = money.spend()
    txid = await source.broadcast(spending)
    assert await source.confirmations(txid) == 0
    assert await source.output(money.txid, money.index) == spent(expected, 3)
    assert await source.broadcast(spending) == txid  # already in the mempool
    await node.mine(1)
    assert await source.output(money.txid, money.index) == spent(expected, 4)
    assert await source.confirmations(txid) == 1
    assert await source.broadcast(spending) == txid  # already confirmed


async def test_an_unconfirmed_output_is_spent(source: ChainSource, money: Money) -> None:
    await source.broadcast(money.spend())
    output = await source.output(money.txid, money.index)
    assert output is not None
    assert (output.confirmations, output.spent) == (0, True)


async def test_several_in_a_block(node: Node, source: ChainSource) -> None:
    several = [Money(node) for _ in range(3)]
    for money in several:
        await money.arrive()
    (block,) = await node.mine(1)
    outputs = [await source.output(money.txid, money.index) for money in several]
    assert outputs == [await money.expected(block, 1) for money in several]
    assert {output.transaction_index for output in outputs if output} == {1, 2, 3}


async def test_unknown(node: Node, source: ChainSource, money: Money) -> None:
    assert await source.confirmations(bytes(32)) is None
    assert await source.output(b"\x07" * 32, 0) is None
    assert await source.output(money.txid, 7) is None
    await node.mine(1)
    assert await source.output(money.txid, 7) is None
    assert await source.output(money.txid, 0xFFFFFFFF) is None


async def test_a_reorg_is_watched(node: Node, source: ChainSource, money: Money) -> None:
    heard: asyncio.Queue[Output | None] = asyncio.Queue()
    async with OutputWatch(source, interval=3600) as watch:
        watch.watch(money.txid, money.index, heard.put_nowait)
        first = await heard.get()
        assert first is not None
        assert first.confirmations == 0
        (old,) = await node.mine(1)
        await watch.poke()
        assert heard.get_nowait() == await money.expected(old, 1)

        await node.rpc("invalidateblock", old)
        await watch.poke()
        assert heard.get_nowait() == first
        assert await source.confirmations(money.txid) == 0

        (new, _) = await node.mine(2)
        assert new != old
        await watch.poke()
        again = heard.get_nowait()
        assert again == await money.expected(new, 2)
        assert heard.empty()


async def test_rejected(source: ChainSource, money: Money) -> None:
    with pytest.raises(BroadcastRejected, match=r"\w"):
        await source.broadcast(money.spend(key=PrivateKey()))
    with pytest.raises(BroadcastRejected, match=r"\w"):
        await source.broadcast(money.spend(fee_sat=-1))
    with pytest.raises(ValueError, match="no transaction"):
        await source.broadcast(b"\x02\x00\x00\x00 no transaction")
    # What was refused has not come in by the back door.
    output = await source.output(money.txid, money.index)
    assert output is not None
    assert not output.spent


async def test_no_estimate_without_a_market(source: ChainSource) -> None:
    assert [await source.fee_estimate(target) for target in (1, 6, 5_000)] == [253] * 3


async def test_a_wrong_password(node_at: tuple[Node, str]) -> None:
    url = node_at[1]
    address = url.partition("://")[2].partition("?")[0].rpartition("@")[2]
    scheme = url.partition("://")[0]
    option = url.partition("?")[2] if "cert=" in url else ""
    wrong = f"{scheme}://lab:not-this-one@{address}" + (f"?{option}" if option else "")
    with pytest.raises(ChainError, match="401") as refused:
        await open_source(wrong)
    assert "not-this-one" not in str(refused.value)


async def test_gone(node: Node, source: ChainSource, money: Money) -> None:
    await node.child.stop()
    with pytest.raises(ChainError):
        await source.tip()
    with pytest.raises(ChainError):
        await source.output(money.txid, money.index)
    with pytest.raises(ChainError):
        await source.broadcast(money.spend())
