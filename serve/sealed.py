"""Chains that a client carries and cannot read: encrypted items of the Responses API.

AES-256-GCM (NIST SP 800-38D) over the padded text; bound to who asks, to the model and to a time by data that is
authenticated with it. An item may come back any number of times until then, as clients without memory send it every turn. What
was changed, or belongs to another key, model or time, is refused in one line that does not say which.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import struct
import time
import zlib
from collections.abc import Callable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

VERSION = b"\x01"
NONCE, BLOCK = 12, 512  # bytes: of the nonce; texts are padded to whole blocks, so that an item's length tells little
MOST = 1 << 20  # bytes of an opened text


class SealError(ValueError):
    """An item that is none of ours, or is no longer. One line."""

    def __init__(self) -> None:
        super().__init__("encrypted_content is not valid here: leave the reasoning item out")


class Seal:
    """Makes and opens items of one server and one model."""

    def __init__(
        self, model: str, *, secret: str | None = None, seconds: float, clock: Callable[[], float] = time.time
    ):
        """`secret`: of all servers that open each other's items; None: one that nobody else has, until this process ends."""
        key = (
            os.urandom(32)
            if secret is None
            else hashlib.scrypt(secret.encode(), salt=b"reverse-o1", n=1 << 14, r=8, p=1)[:32]
        )
        self._cipher, self._model, self._seconds, self._clock = AESGCM(key), model, seconds, clock

    def close(self, text: str, owner: str) -> str:
        """`text` as an item for `owner`."""
        expiry, nonce = struct.pack(">Q", int(self._clock() + self._seconds)), os.urandom(NONCE)
        packed = zlib.compress(text.encode()[:MOST])
        body = struct.pack(">I", len(packed)) + packed
        body += bytes(-len(body) % BLOCK)
        sealed = self._cipher.encrypt(nonce, body, self._bound(expiry, owner))
        return base64.urlsafe_b64encode(VERSION + expiry + nonce + sealed).decode()

    def open(self, item: str, owner: str) -> str:
        """The text of an item.

        Raises:
            SealError: it was changed, is another owner's or model's, or too old.
        """
        try:
            data = base64.b64decode(item.encode(), altchars=b"-_", validate=True)
            if base64.urlsafe_b64encode(data).decode() != item:  # bits that no byte holds were changed
                raise SealError
            expiry, nonce, sealed = data[1:9], data[9 : 9 + NONCE], data[9 + NONCE :]
            body = self._cipher.decrypt(nonce, sealed, self._bound(expiry, owner))
            if data[:1] != VERSION or struct.unpack(">Q", expiry)[0] < self._clock():
                raise SealError
            (size,) = struct.unpack(">I", body[:4])
            return zlib.decompressobj().decompress(body[4 : 4 + size], MOST).decode()
        except (InvalidTag, binascii.Error, UnicodeError, struct.error, zlib.error, ValueError, IndexError):
            raise SealError from None

    def _bound(self, expiry: bytes, owner: str) -> bytes:
        parts = (
            VERSION,
            expiry,
            hashlib.sha256(owner.encode()).digest(),
            hashlib.sha256(self._model.encode()).digest(),
        )
        return b"".join(parts)
