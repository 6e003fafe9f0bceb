"""Many keys as one table in a statement."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY


def given(pairs: Sequence[tuple[str, str]], second: str) -> sa.TableValuedAlias:
    """(tenant id, other id) pairs as a table `given` with the columns `tenant_id` and `second`.

    To be joined: a list of row values in IN would be compared with every row of the table, one by one.
    """
    tenant_ids = sa.literal([tenant_id for tenant_id, _ in pairs], ARRAY(sa.Text))
    others = sa.literal([other for _, other in pairs], ARRAY(sa.Text))
    return sa.func.unnest(tenant_ids, others).table_valued("tenant_id", second, name="given").render_derived()


def is_given(table: sa.FromClause, keys: sa.FromClause, second: str) -> sa.ColumnElement[bool]:
    """Whether a row of the table is one of the given keys; implies the join."""
    return sa.and_(table.c.tenant_id == keys.c.tenant_id, table.c[second] == keys.c[second])
