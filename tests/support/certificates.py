"""Certificates that nobody has reason to trust."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

_AUTHORITY = x509.BasicConstraints(ca=True, path_length=None)
_SIGNS = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


def certificate(folder: Path, name: str, kind: str = "ecdsa") -> tuple[Path, Path]:
    """The files of a certificate for this name or address, signed by itself, and of its key."""
    key = _key(kind)
    try:
        alternative: x509.GeneralName = x509.IPAddress(ip_address(name))
    except ValueError:
        alternative = x509.DNSName(name)
    made = _signed(name, key, name, key, x509.SubjectAlternativeName([alternative]))
    return _write(folder, name, [made], key)


def chain(folder: Path, name: str, kind: str = "ecdsa") -> tuple[Path, Path, Path]:
    """As `certificate`, signed by one in between, which is in its file; and its root's file."""
    root, between, key = (_key(kind) for _ in range(3))
    top = _signed("root", root, "root", root, _AUTHORITY, _SIGNS)
    middle = _signed("between", between, "root", root, _AUTHORITY, _SIGNS)
    alternative = x509.SubjectAlternativeName([x509.DNSName(name)])
    made = _signed(name, key, "between", between, alternative)
    files = _write(folder, name, [made, middle], key)
    return *files, _write(folder, "root", [top], root)[0]


def _key(kind: str) -> Key:
    if kind == "rsa":
        return rsa.generate_private_key(65537, 2048)
    return ec.generate_private_key(ec.SECP256R1())


def _signed(
    name: str, key: Key, issuer: str, by: Key, *extensions: x509.ExtensionType
) -> x509.Certificate:
    """With all that RFC 5280 demands, which Python's default context does from 3.13 on."""
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_named(name))
        .issuer_name(_named(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False
        )
    )
    for extension in extensions:
        critical = not isinstance(extension, x509.SubjectAlternativeName)
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(by, SHA256())


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _write(
    folder: Path, name: str, certificates: list[x509.Certificate], key: Key
) -> tuple[Path, Path]:
    files = folder / f"{name}.crt", folder / f"{name}.key"
    files[0].write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in certificates))
    files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return files
