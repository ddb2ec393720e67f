"""A certificate is renewed while the relay runs, whatever kinds of keys the two have."""

import asyncio
import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from lightning_proxy.api import ApiSettings, Server, SettingsError
from tests.support.certificates import certificate
from tests.support.relay import relay


async def served(server: Server, *, name: str | None = "localhost") -> bytes:
    """The certificate that a new connection gets, in DER."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
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
