"""Commands that end before they reach a service: wrong usage says what is wrong, and is no traceback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from libs.cli.connection import endpoints
from libs.cli.home import home
from libs.cli.main import app
from libs.embedded.stack import DEFAULT_ROOT
from steelyard import Endpoints, Unavailable

NOBODY_LISTENS = "127.0.0.1:1"
TARGETS = [f"STEELYARD_{name.upper()}_TARGET" for name in Endpoints.__slots__]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A shell with keys, where no stack runs, and from which no service is reached."""
    monkeypatch.setenv("STEELYARD_HOME", str(tmp_path / "nothing-here"))
    monkeypatch.setenv("STEELYARD_API_KEY", "sy_1_x")
    monkeypatch.setenv("STEELYARD_OPERATOR_KEY", "operator")
    monkeypatch.setenv("COLUMNS", "200")
    for name in TARGETS:
        monkeypatch.setenv(name, NOBODY_LISTENS)
    yield
    assert not (tmp_path / "nothing-here").exists()


@pytest.fixture
def a_file(server_root: Path) -> Path:
    """A file in a directory that the servers' account reaches: elsewhere another home would be taken for root."""
    file = server_root / "a-file"
    file.touch()
    return file


def said(*arguments: str) -> tuple[int, str]:
    """Run a command; return its exit code and what it says on stderr. On stdout it must say nothing."""
    done = CliRunner().invoke(app, list(arguments))
    assert done.stdout == ""
    return done.exit_code, done.stderr


class TestWrongUsage:
    @pytest.mark.parametrize(
        ("arguments", "reason"),
        [
            (("customers", "create"), "Missing argument 'customer_id'"),
            (("customers", "create", "bad\udcff"), r"'bad\udcff' is not UTF-8 text"),
            (("customers", "list", "--output", "xml"), "'--output'"),
            (("tenants", "create", "a", "--grace-s", "99999999999"), "'--grace-s'"),
            (("tenants", "create", "a", "--test-clock", "now"), "--test-clock: 'now'"),
            (("tenants", "advance-clock", "a", "now"), "TIME: 'now'"),
            (("ratecards", "show", "a", "--version", "99999999999"), "'--version'"),
            (("ratecards", "preview", "a", "-q", "m=1", "-q", "m=2"), "--quantity: 'm' is given twice"),
            (("ratecards", "preview", "a", "--period", "2026-01-15/2026-02-01"), "needs both --period and --whole"),
            (("ratecards", "preview", "a", "--period", "2026-01-15", "--whole", "x/y"), "--period: '2026-01-15'"),
            (("ratecards", "preview", "a", "--period", "2026-01-15/x", "--whole", "x/y"), "--period: 'x'"),
            (("ratecards", "create", "absent.json"), "'absent.json' does not exist"),
            (("invoices", "list", "--state", "unspecified"), "'--state'"),
            (("invoices", "preview", "s", "--at", "now"), "--at: 'now'"),
            (("usage", "m", "--start", "2026-01-01", "--end", "x"), "--end: 'x'"),
            (("usage", "m", "--start", "2026-01-01", "--end", "2026-02-01", "--zone", "X"), "--zone: 'X'"),
            (("reconcile", "--start", "2026-01-01"), "give --start and --end together"),
            (("events", "send", "absent.csv"), "'absent.csv' does not exist"),
            (("events", "list", "--limit", "0"), "'--limit'"),
            (("events", "void", "--reason", "x"), "name events, or a --file of them"),
            (("events", "void", "e1"), "say why, with --reason"),
            (("events", "replace", "absent.csv", "--reason", "x"), "'absent.csv' does not exist"),
        ],
    )
    def test_names_what_is_wrong(self, arguments: tuple[str, ...], reason: str) -> None:
        code, text = said(*arguments)
        assert (code, reason in text) == (2, True), text

    @pytest.mark.parametrize(
        ("card", "reason"),
        [
            (b"", "Expecting value"),
            (b"[1]", "Failed to parse"),
            (b"[" * 100_000, "recursion"),
            (b"\xff", "can't decode byte 0xff"),
            (b'{"prices": [{"flat": {"amount": 0.1}}]}', "amount"),
            (b'{"price": []}', 'no field named "price"'),
        ],
    )
    def test_a_rate_card_that_is_none(self, tmp_path: Path, card: bytes, reason: str) -> None:
        file = tmp_path / "card.json"
        file.write_bytes(card)
        code, text = said("ratecards", "create", str(file))
        assert (code, f"error: {file}: " in text, reason in text) == (2, True, True), text

    def test_a_bad_line_is_named_before_anything_is_sent(self, tmp_path: Path) -> None:
        file = tmp_path / "events.jsonl"
        file.write_text("{}\n")
        reason = f"error: {file}:1: event_id, customer_id, event_time, event_type is missing\n"
        assert said("events", "send", str(file)) == (2, reason)

    @pytest.mark.parametrize("key", ["sy_1_x\n", "sy 1", "sy_\N{LATIN SMALL LETTER E WITH ACUTE}"])
    def test_a_key_that_no_header_can_hold(self, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
        monkeypatch.setenv("STEELYARD_API_KEY", key)
        code, text = said("customers", "list")
        assert (code, "STEELYARD_API_KEY holds" in text, key in text) == (2, True, False)

    @pytest.mark.parametrize(
        ("command", "variable"), [("customers", "STEELYARD_API_KEY"), ("tenants", "STEELYARD_OPERATOR_KEY")]
    )
    def test_a_key_that_is_missing(self, monkeypatch: pytest.MonkeyPatch, command: str, variable: str) -> None:
        monkeypatch.delenv(variable)
        code, text = said(command, "list")
        assert (code, f"set {variable}" in text) == (2, True)


class TestNobodyThere:
    def test_an_unreachable_service(self) -> None:
        code, text = said("customers", "list", "--output", "json")
        assert (code, text.startswith("error: "), NOBODY_LISTENS in text) == (3, True, True)

    @pytest.mark.parametrize("command", [("customers", "list"), ("env",)])
    def test_nothing_runs(self, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]) -> None:
        for name in TARGETS:
            monkeypatch.delenv(name)
        code, text = said(*command)
        assert (code, "`steelyard up` starts it" in text) == (3, True)

    def test_down_says_so(self) -> None:
        done = CliRunner().invoke(app, ["down", "--output", "json"])
        assert (done.exit_code, done.stdout) == (0, '{\n  "stopped": false\n}\n')

    @pytest.mark.parametrize("command", [("up",), ("env",), ("down",), ("customers", "list")])
    def test_a_home_that_cannot_be_one(
        self, monkeypatch: pytest.MonkeyPatch, a_file: Path, command: tuple[str, ...]
    ) -> None:
        monkeypatch.setenv("STEELYARD_HOME", str(a_file))
        monkeypatch.delenv("STEELYARD_BILLING_TARGET")
        code, text = said(*command)
        assert (code, text.startswith("error: "), str(a_file) in text) == (5, True, True), text


class TestHome:
    def test_is_in_the_project_unless_it_is_named(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.chdir(tmp_path)
        for named, expected in [("", DEFAULT_ROOT), ("/x/y", Path("/x/y")), ("z", tmp_path / "z")]:
            monkeypatch.setenv("STEELYARD_HOME", named)
            assert home() == expected

    def test_is_not_looked_into_when_every_target_is_named(self, monkeypatch: pytest.MonkeyPatch, a_file: Path) -> None:
        monkeypatch.setenv("STEELYARD_HOME", str(a_file))
        assert endpoints() == Endpoints(*[NOBODY_LISTENS] * 5)

    def test_one_named_target_is_enough_where_nothing_runs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in TARGETS[1:]:
            monkeypatch.delenv(name)
        assert endpoints() == Endpoints(ingest=NOBODY_LISTENS)
        monkeypatch.delenv(TARGETS[0])
        with pytest.raises(Unavailable):
            endpoints()
