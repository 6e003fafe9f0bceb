from __future__ import annotations

from collections.abc import Callable

import pytest

from libs.database import append_only, queue_access, row_security


@pytest.mark.parametrize("helper", [row_security, append_only, queue_access])
@pytest.mark.parametrize(("service", "table"), [("billing; DROP", "t"), ("billing", 't"x'), ("Billing", "t")])
def test_refuses_names_that_would_need_quoting(
    helper: Callable[[str, str], list[str]], service: str, table: str
) -> None:
    with pytest.raises(ValueError, match="identifier"):
        helper(service, table)
