"""What the tests of the wallet's commands begin with."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from lightning_proxy.wallet import WalletKeys, files
from tests.unit.wallet.samples import SEED
from tests.unit.wallet.scripted_relay import ScriptedRelay


@pytest.fixture
def wallet(tmp_path: Path) -> dict[str, str]:
    """A wallet's environment."""
    file = tmp_path / "wallet.json"
    files.create(file, "a passphrase", keys=WalletKeys(SEED), cost=10)
    return {
        "LIGHTNING_PROXY_WALLET_FILE": str(file),
        "LIGHTNING_PROXY_WALLET_PASSPHRASE": "a passphrase",
    }


@pytest.fixture
def policy(tmp_path: Path) -> str:
    path = tmp_path / "policy.toml"
    path.write_text('chains = ["regtest"]\n')
    return str(path)


@pytest_asyncio.fixture
async def relay() -> AsyncIterator[ScriptedRelay]:
    async with ScriptedRelay().listen() as relay:
        yield relay
