"""Wakes by Web Push: RFC 8030, encrypted by RFC 8291, the relay known by RFC 8292 (VAPID)."""

import asyncio
import base64
import re
import time
from pathlib import Path
from typing import ClassVar, Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from py_vapid import Vapid02, VapidException, jwt
from pywebpush import WebPusher, WebPushException
from yarl import URL

from lightning_proxy.relay.wake.adapter import Failed, Notice, Outcome, Say, WakeError
from lightning_proxy.relay.wake.http import GuardedHttp, Letter
from lightning_proxy.relay.wake.webhook import Body
from lightning_proxy.rpc import ErrorCode, RpcError, WakeByWebPush, WakeKind

#: RFC 8292 §2: at most 24 hours.
_TOKEN_LIFETIME: Final = 12 * 3600
#: Characters.
_MAX_SUBJECT: Final = 320
#: RFC 8030 §5.4: of several that a sleeping browser has not had yet, it gets the last.
_TOPIC: Final = "wake"
#: RFC 8030 §7.3 has 404 for a subscription that is over, and many services say 410.
_GONE: Final = frozenset({404, 410})


#: A host that the world may know: labels with dots between, the last of which has a letter.
_HOST: Final = r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+(?=[a-z0-9-]*[a-z])[a-z0-9-]{2,63}"
#: RFC 3986, appendix A: what a path, a query and a fragment may have.
_URI: Final = r"a-z0-9._~:/?#@!$&'()*+,;=%\[\]-"
_CONTACT: Final = re.compile(
    rf"mailto:[a-z0-9.!#$%&'*+/=?^_`{{|}}~-]{{1,64}}@(?P<mail>{_HOST})"
    rf"|https://(?P<web>{_HOST})(?::[0-9]{{1,5}})?(?:[/?#][{_URI}]*)?",
    re.IGNORECASE,
)
#: RFC 6761, 6762: names that mean something on one machine or in one network only, or nothing.
_NOWHERE: Final = (".localhost", ".local", ".internal", ".invalid", ".test", ".home.arpa", ".lan")


def is_contact(subject: str) -> bool:
    """Whether push services take this as a VAPID `sub`: how somebody can be reached (RFC 8292)."""
    match = _CONTACT.fullmatch(subject)
    if match is None:
        return False
    host = match["mail"] or match["web"]
    return len(subject) <= _MAX_SUBJECT and not host.lower().endswith(_NOWHERE)


class VapidKey:
    """The relay's key for push services (P-256); raises `WakeError` where the file holds none."""

    def __init__(self, path: Path) -> None:
        try:
            self._vapid = Vapid02.from_pem(path.read_bytes())
        except OSError as error:
            raise WakeError(f"{path} can't be read: {error.strerror}") from None
        except (ValueError, VapidException):
            raise WakeError(f"{path} holds no VAPID key; make one: lightning-proxy vapid") from None

    @property
    def public_key(self) -> str:
        """What a browser wants as `applicationServerKey`: base64url without padding."""
        return public_key_of(self._vapid.public_key)

    def headers(self, endpoint: str, subject: str) -> dict[str, str]:
        """RFC 8292 §2: a token for this push service alone.

        Not by `Vapid02.sign`: to its patterns a contact has no path, and an origin no IPv6 address.
        """
        expires = int(time.time()) + _TOKEN_LIFETIME
        claims = {"aud": str(URL(endpoint).origin()), "sub": subject, "exp": expires}
        token = jwt.sign(claims, self._vapid.private_key)
        return {"Authorization": f"vapid t={token},k={self.public_key}"}


class WebPush:
    """An `Adapter`."""

    kind: ClassVar = WakeKind.WEB_PUSH
    target: ClassVar = WakeByWebPush

    def __init__(self, http: GuardedHttp, key: VapidKey, subject: str | None) -> None:
        """Raises `WakeError` for a subject that push services would not take."""
        if not is_contact(subject or ""):
            raise WakeError(
                "Web Push needs relay.wake.vapid_subject: how push services reach you, such as "
                "mailto:you@example.com or https://example.com/contact, without spaces, at a name "
                "that the world knows. They refuse each push with another."
            )
        self._http = http
        self._key = key
        self._subject = subject or ""

    def check(self, target: WakeByWebPush) -> str:
        host = self._http.check(target.endpoint)
        try:
            point = base64.urlsafe_b64decode(target.p256dh + "=")
            ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        except ValueError:
            raise RpcError(
                ErrorCode.INVALID_PARAMS, "p256dh is not a public key of the curve P-256."
            ) from None
        return host

    async def send(self, target: WakeByWebPush, say: Say) -> Outcome:
        async def write(notice: Notice) -> Letter:
            # Encryption takes a millisecond; the event loop has better things to do.
            body, headers = await asyncio.to_thread(self._seal, target, Body.of(notice))
            headers |= {"TTL": str(int(notice.lifetime)), "Urgency": "high", "Topic": _TOPIC}
            return body, headers

        try:
            return await self._http.post(target.endpoint, say, write, gone=_GONE)
        except (VapidException, WebPushException, ValueError) as error:
            return Failed(f"it can't be encrypted ({type(error).__name__})")

    def _seal(self, target: WakeByWebPush, data: bytes) -> Letter:
        subscription = {
            "endpoint": target.endpoint,
            "keys": {"p256dh": target.p256dh, "auth": target.auth},
        }
        sealed = WebPusher(subscription).encode(data, content_encoding="aes128gcm")
        assert sealed is not None  # noqa: S101 - only without data it is
        headers = self._key.headers(target.endpoint, self._subject)
        headers |= {
            "Content-Encoding": "aes128gcm",
            "Content-Type": "application/octet-stream",
        }
        return bytes(sealed["body"]), headers


def public_key_of(key: ec.EllipticCurvePublicKey) -> str:
    """An uncompressed point, base64url without padding."""
    point = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return base64.urlsafe_b64encode(point).rstrip(b"=").decode()
