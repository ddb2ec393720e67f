"""What the README shows does what it says."""

import asyncio
import re
import textwrap
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lightning_proxy.api import Server
from lightning_proxy.bolt.chains import CHAIN_HASHES
from lightning_proxy.bolt.messages import decode
from lightning_proxy.config import Config
from tests.support.channels import open_channel
from tests.support.peer import ScriptedPeer
from tests.support.relay import take

README = (Path(__file__).parents[2] / "README.md").read_text()


def block(language: str) -> str:
    """The README's one block of this language."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    return str(found)


async def test_the_wallet_developers_example(
    server: Server,
    peer: ScriptedPeer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    example = block("python").replace("http://127.0.0.1:3000", server.url)
    example = example.replace("02...@peer.example:9735", peer.address)
    scope: dict[str, Any] = {}
    exec("async def example():\n" + textwrap.indent(example, "    "), scope)  # noqa: S102
    running = asyncio.create_task(scope["example"]())
    connection = await take(peer)
    await connection.send(open_channel(chain_hash=CHAIN_HASHES["bitcoin"]).encode())
    assert decode(await connection.receive()).NAME == "accept_channel"
    await asyncio.sleep(0.1)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert "Answered(" in capsys.readouterr().out


def test_the_operators_settings_are_settings() -> None:
    config = msgspec.convert(tomllib.loads(block("toml")), Config)
    assert config.api.checked().access == "token"
