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

    columns = WindowBatch(rows).columns()

    assert [list(column) for column in (columns[1], columns[7])] == [["a", "b"], [5, 5]]


def test_columns_are_in_the_order_of_locks() -> None:
    rows = [_row(customer, start_s=start_s) for customer in ("b", "a") for start_s in (1800, 900)]

    columns = WindowBatch(rows).columns()

    assert list(zip(columns[1], columns[2], strict=True)) == [("a", 900), ("a", 1800), ("b", 900), ("b", 1800)]
    assert len(columns) == len(WindowRow._fields) + 1


def test_an_empty_batch_has_empty_columns() -> None:
    assert WindowBatch().columns() == [[]] * 10
    assert (len(WindowBatch()), WindowBatch().tenants()) == (0, [])


def test_the_digest_of_dimensions_tells_them_apart() -> None:
    texts = [json.dumps({"model": name}) for name in ("a", "b", "a" * 10_000)]

    digests = {dimensions_key(text) for text in texts}

    assert dimensions_key("{}") == b""
    assert {len(digest) for digest in digests} == {16}
    assert len(digests) == 3
