"""Tenant API keys: how they are made, read and hashed. Pure.

A key reads `sy_<8 hex id>_<secret>_<8 hex CRC-32 of all before>`. The id is public and names the key in lists and
logs; the CRC lets a scanner or a client see a mistyped key without asking us.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

_KEY = re.compile(r"(sy_([0-9a-f]{8})_[a-z2-7]{48})_([0-9a-f]{8})", re.ASCII)
_ID_BYTES = 4
_SECRET_BYTES = 30  # 240 bits: 48 characters of base32 without padding.


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """A key just made. `text` is shown once to its owner and never stored; `secret_hash` is what we keep."""

    key_id: str
    text: str = field(repr=False)
    secret_hash: bytes


def new_api_key(random_bytes: Callable[[int], bytes]) -> NewApiKey:
    """Make a key from a cryptographic source such as `secrets.token_bytes`.

    Ids have 32 bits: whoever stores the key must refuse an id that exists and make another key.
    """
    key_id = random_bytes(_ID_BYTES).hex()
    secret = base64.b32encode(random_bytes(_SECRET_BYTES)).decode().lower()
    body = f"sy_{key_id}_{secret}"
    text = f"{body}_{_checksum(body)}"
    return NewApiKey(key_id, text, hash_api_key(text))


def parse_api_key(text: str) -> str | None:
    """Return the key id of a well-formed key, None for anything else."""
    match = _KEY.fullmatch(text)
    if match is None or _checksum(match[1]) != match[3]:
        return None
    return match[2]


def hash_api_key(text: str) -> bytes:
    """SHA-256 of the whole key: a fast hash is enough for 240 random bits, which no one can guess."""
    return hashlib.sha256(text.encode()).digest()


def api_key_matches(text: str, secret_hash: bytes) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(hash_api_key(text), secret_hash)


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"
