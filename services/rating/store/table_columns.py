"""What the definitions of rating's tables share."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

metadata = sa.MetaData()

INSTANT = sa.DateTime(timezone=True)

# Half of each page stays free for new versions of its rows: an update then leaves the indexes alone, also if one
# transaction updates all rows of the page.
UPDATED_IN_PLACE = {"fillfactor": "45"}


def key(name: str, kind: sa.types.TypeEngine[Any] | None = None) -> sa.Column[Any]:
    return sa.Column(name, kind or sa.Text(), primary_key=True, autoincrement=False)


def text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def whole(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=nullable)


def instant(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, INSTANT, nullable=nullable)


def number(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Numeric, nullable=False)
