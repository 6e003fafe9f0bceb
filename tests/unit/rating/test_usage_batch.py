"""Windows as columns."""

from __future__ import annotations

import json
import random

from services.rating.domain.usage import WindowBatch, WindowRow, dimensions_key


def _row(customer: str = "c", version: int = 1, *, start_s: int = 0, dimensions: str = "{}") -> WindowRow:
    return WindowRow("acme", customer, start_s, "m", dimensions, str(version), 1, version, "")


def test_the_highest_version_is_kept_in_any_order() -> None:
    rows = [_row(customer, version) for customer in ("a", "b") for version in (1, 5, 3)]
    random.Random(1).shuffle(rows)

    kept = sorted(WindowBatch(rows).rows())

    assert [(row.customer_id, row.version) for row in kept] == [("a", 5), ("b", 5)]


def test_windows_with_other_keys_are_kept_apart() -> None:
    rows = [_row(customer, start_s=start_s) for customer in ("b", "a") for start_s in (1800, 900)]

    assert sorted(WindowBatch(rows).rows()) == sorted(rows)


def test_an_empty_batch_has_no_tenants() -> None:
    assert (len(WindowBatch()), WindowBatch().tenants()) == (0, [])


def test_the_digest_of_dimensions_tells_them_apart() -> None:
    texts = [json.dumps({"model": name}) for name in ("a", "b", "a" * 10_000)]

    digests = {dimensions_key(text) for text in texts}

    assert dimensions_key("{}") == b""
    assert {len(digest) for digest in digests} == {16}
    assert len(digests) == 3
