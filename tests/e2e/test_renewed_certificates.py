"""A certificate is renewed while the relay runs, whatever kinds of keys the two have."""

import asyncio
import json
import signal
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from lightning_proxy.api import ApiSettings, Server, SettingsError
from tests.support.certificates import certificate, chain
from tests.support.relay import relay
from tests.support.serving import serving
from tests.unit.cli.commands import TIMEOUT


async def served(
    server: Server,
    *,
    name: str | None = "localhost",
    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
) -> bytes:
    """The certificate that a new connection gets, in DER."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = version
    _, writer = await asyncio.open_connection(
        "127.0.0.1", server.port, ssl=context, server_hostname=name or ""
    )
    found: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return found


def der(file: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(file.read_text())


@pytest.mark.parametrize(("old", "new"), [("ecdsa", "rsa"), ("rsa", "ecdsa"), ("rsa", "rsa")])
async def test_any_kind_follows_any(tmp_path: Path, old: str, new: str) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    after.mkdir()
    files = certificate(before, "localhost", old)
    renewed = certificate(after, "localhost", new)
    api = ApiSettings(port=0, tls_certificate=str(files[0]), tls_key=str(files[1]))
    async with relay(api) as server:
        was = der(files[0])
        assert await served(server) == was
        for mine, theirs in zip(files, renewed, strict=True):
            mine.write_bytes(theirs.read_bytes())
        server.reload()
        assert await served(server) == der(renewed[0])
        # By an address, a client names nobody.
        assert await served(server, name=None) == der(renewed[0])
        # Where the kind of key decides about the cipher.
        assert await served(server, version=ssl.TLSVersion.TLSv1_2) == der(renewed[0])
        assert der(renewed[0]) != was


@pytest.mark.parametrize("broken", ["garbage", "another key", "encrypted"])
async def test_what_will_not_do_leaves_the_old_one(tmp_path: Path, broken: str) -> None:
    files = certificate(tmp_path, "localhost")
    api = ApiSettings(port=0, tls_certificate=str(files[0]), tls_key=str(files[1]))
    async with relay(api) as server:
        was = der(files[0])
        match broken:
            case "garbage":
                files[0].write_text("no certificate")
            case "another key":
                files[1].write_bytes(certificate(tmp_path, "other")[1].read_bytes())
            case "encrypted":
                key = load_pem_private_key(files[1].read_bytes(), None)
                files[1].write_bytes(
                    key.private_bytes(
                        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
                    )
                )
        with pytest.raises(SettingsError, match="tls_certificate, tls_key"):
            server.reload()
        assert await served(server) == was


@pytest.mark.parametrize("kinds", [("ecdsa", "rsa"), ("rsa", "ecdsa")])
async def test_those_above_it_are_renewed_with_it(tmp_path: Path, kinds: tuple[str, str]) -> None:
    """A client that trusts the root alone needs the one in between."""
    made = []
    for kind in kinds:
        (tmp_path / kind).mkdir()
        made.append(chain(tmp_path / kind, "localhost", kind))
    (certificate_file, key_file, old_root), (*renewed, new_root) = made
    flags = ("--tls-certificate", str(certificate_file), "--tls-key", str(key_file))
    async with serving(tmp_path, *flags) as (process, by_address):
        url = by_address.replace("127.0.0.1", "localhost")

        async def trusted(root: Path) -> bool:
            context = ssl.create_default_context(cafile=str(root))
            async with aiohttp.ClientSession() as http:
                try:
                    async with http.get(f"{url}/healthz", ssl=context) as response:
                        return response.status == 200
                except aiohttp.ClientConnectorCertificateError:
                    return False

        async def said(event: str) -> Any:
            while True:
                line = json.loads(await asyncio.wait_for(process.stderr.readline(), TIMEOUT))
                if line["event"] == event:
                    return line

        assert await trusted(old_root)
        for mine, theirs in zip((certificate_file, key_file), renewed, strict=True):
            mine.write_bytes(theirs.read_bytes())
        process.send_signal(signal.SIGHUP)
        assert (await said("reloaded"))["what"] == ["certificate"]
        assert await trusted(new_root)
        assert not await trusted(old_root)
        # The key of another: half of a renewal, as seen by who reads in the midst of it.
        key_file.write_bytes((tmp_path / kinds[1] / "root.key").read_bytes())
        process.send_signal(signal.SIGHUP)
        refused = await said("not_reloaded")
        assert refused["what"] == "certificate"
        assert "tls_key" in refused["reason"]
        assert await trusted(new_root)
