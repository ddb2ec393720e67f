"""`CipherState` again, slow and plain, on pycryptodome: the tests' oracle, and readable truth."""

from hmac import digest as hmac_digest

from Crypto.Cipher import ChaCha20_Poly1305

_HEADER_SIZE = 18
_TAG_SIZE = 16
_ROTATION = 1000


class ReferenceCipherState:
    """One direction of a BOLT #8 connection; `ValueError` on a wrong tag."""

    def __init__(self, key: bytes, chaining_key: bytes, nonce: int = 0) -> None:
        self.key, self.chaining_key, self.nonce = key, chaining_key, nonce

    def export(self) -> tuple[bytes, int, bytes]:
        return self.key, self.nonce, self.chaining_key

    def seal(self, message: bytes) -> bytes:
        header = self.encrypt(len(message).to_bytes(2, "big"))
        return header + self.encrypt(message)

    def open(self, buffer: bytes) -> tuple[list[bytes], int]:
        """The whole frames at the start of `buffer`, and how many bytes they took."""
        messages: list[bytes] = []
        at = 0
        while len(buffer) - at >= _HEADER_SIZE:
            before = self.export()
            length = int.from_bytes(self.decrypt(buffer[at : at + _HEADER_SIZE]), "big")
            end = at + _HEADER_SIZE + length + _TAG_SIZE
            if end > len(buffer):
                self.key, self.nonce, self.chaining_key = before
                break
            messages.append(self.decrypt(buffer[at + _HEADER_SIZE : end]))
            at = end
        return messages, at

    def encrypt(self, plaintext: bytes) -> bytes:
        ciphertext, tag = self._cipher().encrypt_and_digest(plaintext)
        return ciphertext + tag

    def decrypt(self, sealed: bytes) -> bytes:
        return self._cipher().decrypt_and_verify(sealed[:-_TAG_SIZE], sealed[-_TAG_SIZE:])

    def _cipher(self) -> ChaCha20_Poly1305.ChaCha20Poly1305Cipher:
        """The cipher for this nonce; BOLT #8 rotates the key once nonce 999 has served."""
        nonce = bytes(4) + self.nonce.to_bytes(8, "little")
        cipher = ChaCha20_Poly1305.new(key=self.key, nonce=nonce)
        self.nonce += 1
        if self.nonce == _ROTATION:
            extracted = hmac_digest(self.chaining_key, self.key, "sha256")
            self.chaining_key = hmac_digest(extracted, b"\x01", "sha256")
            self.key = hmac_digest(extracted, self.chaining_key + b"\x02", "sha256")
            self.nonce = 0
        return cipher
