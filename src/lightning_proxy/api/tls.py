"""The certificate, and its renewal while the relay runs."""

from ssl import PROTOCOL_TLS_SERVER, SSLContext, SSLObject, SSLSocket
from typing import NoReturn


class CertificateError(Exception):
    """The files won't do; the text says why."""


class Certificate:
    """Two files (PEM): the certificate with those above it, and its key.

    Raises `CertificateError`; so does `reload`, and then all is as before.
    """

    def __init__(self, certificate: str, key: str) -> None:
        self._files = certificate, key
        self._current = self._read()
        #: What a listening socket gets. It hands each connection over to the latest context: one
        #: that is loaded again would keep the old certificate beside a new one of another kind.
        self.context = self._read()
        self.context.sni_callback = self._hand_over

    def reload(self) -> None:
        """Read the files again, for connections from now on."""
        self._current = self._read()

    def _read(self) -> SSLContext:
        # PROTOCOL_TLS_SERVER: TLS 1.2 at least.
        context = SSLContext(PROTOCOL_TLS_SERVER)
        certificate, key = self._files
        try:
            context.load_cert_chain(certificate, key, password=_no_password)
        except OSError as error:
            raise CertificateError(error.strerror or type(error).__name__) from None
        except _Encrypted:
            raise CertificateError("the key is encrypted, and nobody is here to ask") from None
        return context

    def _hand_over(self, connection: SSLSocket | SSLObject, _: str | None, __: SSLContext) -> None:
        connection.context = self._current


class _Encrypted(Exception):
    """A pass phrase is wanted."""


def _no_password() -> NoReturn:
    # OpenSSL would ask on the terminal.
    raise _Encrypted
