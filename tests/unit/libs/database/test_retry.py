from __future__ import annotations

import asyncpg
import pytest
from sqlalchemy import exc

from libs.database import is_outage, retry_transient, sqlstate


class _PostgresError(Exception):
    def __init__(self, state: str) -> None:
        super().__init__(state)
        self.sqlstate = state


class _Wrapped(Exception):
    def __init__(self, orig: Exception) -> None:
        super().__init__("wrapped")
        self.orig = orig


class _Flaky:
    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0
        self.slept_s: list[float] = []

    async def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"

    async def sleep(self, delay_s: float) -> None:
        self.slept_s.append(delay_s)


class TestRetryTransient:
    async def test_runs_again_after_serialization_failures_and_deadlocks(self) -> None:
        flaky = _Flaky(_PostgresError("40001"), _Wrapped(_PostgresError("40P01")))

        assert await retry_transient(flaky, jitter=lambda: 0.5, sleep=flaky.sleep) == "done"
        assert (flaky.calls, flaky.slept_s) == (3, [0.02, 0.04])

    async def test_gives_up_after_the_last_attempt(self) -> None:
        flaky = _Flaky(*(_PostgresError("40001") for _ in range(9)))

        with pytest.raises(_PostgresError):
            await retry_transient(flaky, 5, sleep=flaky.sleep)
        assert (flaky.calls, len(flaky.slept_s)) == (5, 4)

    @pytest.mark.parametrize("error", [_PostgresError("23505"), _PostgresError("08006"), ValueError("x")])
    async def test_raises_any_other_error_at_once(self, error: Exception) -> None:
        flaky = _Flaky(error)

        with pytest.raises(type(error)):
            await retry_transient(flaky, sleep=flaky.sleep)
        assert (flaky.calls, flaky.slept_s) == (1, [])

    @pytest.mark.parametrize("attempts", [0, 6])
    async def test_refuses_other_numbers_of_attempts(self, attempts: int) -> None:
        with pytest.raises(ValueError, match="attempts"):
            await retry_transient(_Flaky(), attempts)


def test_sqlstate_of_errors_without_one_is_none() -> None:
    assert sqlstate(ValueError()) is None
    assert sqlstate(None) is None


class TestIsOutage:
    @pytest.mark.parametrize(
        "error",
        [
            ConnectionRefusedError(),
            TimeoutError(),
            asyncpg.InterfaceError("connection is closed"),
            asyncpg.InternalClientError("cannot switch to state 11"),
            exc.TimeoutError(),
            *map(_PostgresError, ["08006", "53300", "57P01", "25006", "40P01"]),
            _Wrapped(_PostgresError("57P03")),
        ],
    )
    def test_knows_errors_that_pass(self, error: Exception) -> None:
        assert is_outage(error)

    @pytest.mark.parametrize("error", [ValueError(), _PostgresError("42P01"), _Wrapped(_PostgresError("42501"))])
    def test_does_not_excuse_wrong_code(self, error: Exception) -> None:
        assert not is_outage(error)
