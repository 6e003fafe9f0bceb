"""Published answers of other billing systems, computed by this one: `python -m tests.vectors FILE...`.

A file has one JSON object a line: `id`, `group`, `kind`, `input`, `expected`, `convention`. A runner, one per group and
kind (`registry.py`), turns the input into calls of production functions and returns a result; the vector passes if
the result has everything that is expected.

What other systems do and this one refuses to do is in one table, `contradictions.py`.
"""
