"""Pages of a list (AIP-158): sizes, and opaque tokens that only continue the list they came from."""

from __future__ import annotations

import base64
import binascii
import copy
import hashlib
import hmac
import json
import re
from collections.abc import Sequence
from typing import Protocol, TypeVar

from google.protobuf.descriptor import Descriptor

from libs.errors import InvalidInput, Violation

_DIGEST_BYTES = 8
_MAX_PAGE_BYTES = 3 * 1024 * 1024  # Of the 4 MiB that a message may have, so that a last item is never too much.
_FRAMING_BYTES = 5  # Tag and length of an item.
_NOT_STORABLE = re.compile("[\x00\ud800-\udfff]")

MessageT = TypeVar("MessageT", bound="Sized")


class Sized(Protocol):
    """Any generated message."""

    def ByteSize(self) -> int: ...


class ListRequest(Protocol):
    """Any generated request with the two fields of AIP-158."""

    page_size: int
    page_token: str

    @property
    def DESCRIPTOR(self) -> Descriptor: ...

    def SerializeToString(self, *, deterministic: bool = ...) -> bytes: ...


def page_size(request: ListRequest, *, default: int = 100, maximum: int = 1_000) -> int:
    """How many items to return: 0 is the default, more than the maximum is the maximum.

    :raises InvalidInput: PAGE_SIZE_NEGATIVE
    """
    if request.page_size < 0:
        raise _invalid("page_size", "PAGE_SIZE_NEGATIVE", "must not be negative")
    return min(request.page_size, maximum) or default


def next_page_token(request: ListRequest, last: Sequence[str]) -> str:
    """The token that continues after `last`, the key (without tenant) of the last item of this page."""
    cursor = json.dumps(list(last), separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(_digest(request, cursor) + cursor).decode().rstrip("=")


def page_cursor(request: ListRequest, length: int) -> tuple[str, ...] | None:
    """The `last` that the request's token was made from, of the given length; None for the first page.

    :raises InvalidInput: PAGE_TOKEN_INVALID, also for a token of another list or of the same with other arguments
    """
    if not request.page_token:
        return None
    try:
        padding = "=" * (-len(request.page_token) % 4)
        content = base64.b64decode(request.page_token + padding, altchars=b"-_", validate=True)
    except (ValueError, binascii.Error) as error:
        raise _token_invalid() from error
    digest, cursor = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if not hmac.compare_digest(digest, _digest(request, cursor)):
        raise _token_invalid()
    try:
        last = json.loads(cursor)
    except (ValueError, RecursionError) as error:  # Whoever forges a digest may forge anything.
        raise _token_invalid() from error
    if not isinstance(last, list) or len(last) != length or not all(map(_is_text, last)):
        raise _token_invalid()
    return tuple(last)


def fitting(items: Sequence[MessageT]) -> Sequence[MessageT]:
    """The first items that fit into one answer, at least one; the others belong to the next page.

    A number of items alone does not bound an answer, and one that is too large is never delivered.
    """
    size_bytes = 0
    for index, item in enumerate(items):
        size_bytes += item.ByteSize() + _FRAMING_BYTES
        if size_bytes > _MAX_PAGE_BYTES and index:
            return items[:index]
    return items


def _is_text(part: object) -> bool:
    """Whether it can be compared with a column of text."""
    return isinstance(part, str) and not _NOT_STORABLE.search(part)


def _digest(request: ListRequest, cursor: bytes) -> bytes:
    """Binds a cursor to its list and arguments. No secret: a forged token reaches nothing its caller may not list."""
    bare = copy.deepcopy(request)
    bare.page_size = 0  # May change from page to page.
    bare.page_token = ""
    arguments = bare.SerializeToString(deterministic=True)
    material = b"\0".join((request.DESCRIPTOR.full_name.encode(), len(arguments).to_bytes(8, "big"), arguments, cursor))
    return hashlib.blake2b(material, digest_size=_DIGEST_BYTES).digest()


def _token_invalid() -> InvalidInput:
    return _invalid("page_token", "PAGE_TOKEN_INVALID", "is not a token of this list with these arguments")


def _invalid(field: str, reason: str, description: str) -> InvalidInput:
    return InvalidInput([Violation(field, reason, description)], reason=reason)
