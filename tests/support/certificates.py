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


def certificate(folder: Path, name: str, kind: str = "ecdsa") -> tuple[Path, Path]:
    """The files of a certificate for this name or address, signed by itself, and of its key."""
    key = _key(kind)
    try:
        alternative: x509.GeneralName = x509.IPAddress(ip_address(name))
    except ValueError:
        alternative = x509.DNSName(name)
    made = _unsigned(name, key, name, x509.SubjectAlternativeName([alternative])).sign(
        key, SHA256()
    )
    return _write(folder, name, [made], key)


def chain(folder: Path, name: str, kind: str = "ecdsa") -> tuple[Path, Path, Path]:
    """As `certificate`, signed by one in between, which is in its file; and its root's file."""
    root, between, key = (_key(kind) for _ in range(3))
    authority = x509.BasicConstraints(ca=True, path_length=None)
    top = _unsigned("root", root, "root", authority).sign(root, SHA256())
    middle = _unsigned("between", between, "root", authority).sign(root, SHA256())
    alternative = x509.SubjectAlternativeName([x509.DNSName(name)])
    made = _unsigned(name, key, "between", alternative).sign(between, SHA256())
    files = _write(folder, name, [made, middle], key)
    return *files, _write(folder, "root", [top], root)[0]


def _key(kind: str) -> Key:
    if kind == "rsa":
        return rsa.generate_private_key(65537, 2048)
    return ec.generate_private_key(ec.SECP256R1())


def _unsigned(
    name: str, key: Key, issuer: str, extension: x509.ExtensionType
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_named(name))
        .issuer_name(_named(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(extension, critical=False)
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _write(
    folder: Path, name: str, certificates: list[x509.Certificate], key: Key
) -> tuple[Path, Path]:
    files = folder / f"{name}.crt", folder / f"{name}.key"
    files[0].write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in certificates))
    files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return files
