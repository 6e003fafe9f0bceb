"""What commands print, and with which exit code they end."""

from __future__ import annotations

import json

import pytest
import typer

from libs.cli.output import (
    Format,
    as_dict,
    fail,
    instant,
    money,
    name_of,
    note,
    print_json,
    quantity,
    say,
    show,
    table,
)
from steelyard import (
    BufferFull,
    DeadlineExceeded,
    DeliveryFailed,
    FailedPrecondition,
    FieldViolation,
    InvalidRequest,
    NotAllowed,
    NotFound,
    Overloaded,
    ServerError,
    Unavailable,
)
from steelyard.billing.v1 import invoice_pb2
from steelyard.common.v1 import money_pb2, reconciliation_pb2

HOSTILE = "[/b][red]:smile: \x1b[31m\r\n\u202e ü"
SHOWN = r"[/b][red]:smile: \x1b[31m\r\n\u202e ü"


class TestTables:
    def test_text_of_customers_is_shown_as_it_is_and_commands_nothing(self, capsys: pytest.CaptureFixture[str]) -> None:
        table(("ID", "N#"), [(HOSTILE, 1), ("b", 22)], title=HOSTILE)
        assert capsys.readouterr().out.splitlines() == [
            SHOWN,
            "ID" + " " * (len(SHOWN) - 2) + "   N",
            f"{SHOWN}   1",
            "b" + " " * (len(SHOWN) - 1) + "  22",
        ]

    def test_long_cells_are_not_folded_in_a_pipe(self, capsys: pytest.CaptureFixture[str]) -> None:
        table(("A", "B"), [("a" * 300, "b" * 300)])
        assert "a" * 300 + "  " + "b" * 300 in capsys.readouterr().out

    def test_lines_are_text_too(self, capsys: pytest.CaptureFixture[str]) -> None:
        say(HOSTILE + "x" * 300, style="bold")
        note(HOSTILE + "x" * 300)
        out, err = capsys.readouterr()
        assert out == err == SHOWN + "x" * 300 + "\n"


class TestJson:
    def test_is_one_document_with_every_field(self, capsys: pytest.CaptureFixture[str]) -> None:
        checks = [reconciliation_pb2.ReconciliationCheck(name=HOSTILE), reconciliation_pb2.ReconciliationCheck(ok=True)]
        show(checks, {"NAME": lambda check: check.name}, Format.JSON)
        first, second = json.loads(capsys.readouterr().out)
        # A check that fails must say so: false is not left out.
        assert first == {"name": HOSTILE, "left": "", "right": "", "ok": False, "differences": []}
        assert second["ok"] is True

    def test_no_rows_are_an_empty_list(self, capsys: pytest.CaptureFixture[str]) -> None:
        show([], {"NAME": str}, Format.JSON)
        assert json.loads(capsys.readouterr().out) == []

    def test_is_neither_folded_nor_marked_up(self, capsys: pytest.CaptureFixture[str]) -> None:
        print_json({"a": "[bold]" + "x" * 500})
        assert capsys.readouterr().out == '{\n  "a": "[bold]' + "x" * 500 + '"\n}\n'

    def test_nothing_is_in_it_that_was_not_set(self) -> None:
        invoice = as_dict(invoice_pb2.Invoice(total=money_pb2.Money(currency="USD")))
        assert invoice["total"] == {"currency": "USD", "minor_units": "0"}
        assert "pay_time" not in invoice


class TestFigures:
    @pytest.mark.parametrize(
        ("currency", "minor_units", "text"),
        [
            ("USD", 0, "0.00"),
            ("USD", 5, "0.05"),
            ("USD", -1234, "-12.34"),
            ("JPY", 1234, "1234"),
            ("KWD", 1234, "1.234"),
            ("USD", 2**62, "46116860184273879.04"),
            ("", 0, "0.00"),
        ],
    )
    def test_money_is_in_major_units(self, currency: str, minor_units: int, text: str) -> None:
        assert money(money_pb2.Money(currency=currency, minor_units=minor_units)) == text

    @pytest.mark.parametrize(
        ("text", "shown"), [("", ""), ("0", "0"), ("1.500", "1.5"), ("0.000002", "0.000002"), ("1E+3", "1000")]
    )
    def test_quantities_are_short_and_without_exponent(self, text: str, shown: str) -> None:
        assert quantity(text) == shown

    def test_an_instant_that_is_not_set_is_nothing(self) -> None:
        invoice = invoice_pb2.Invoice()
        assert instant(invoice.pay_time) == ""
        invoice.pay_time.FromJsonString("2026-01-31T23:59:59.5Z")
        assert instant(invoice.pay_time) == "2026-01-31T23:59:59.500Z"

    def test_names_of_states_are_words(self) -> None:
        assert name_of(invoice_pb2.InvoiceState, invoice_pb2.INVOICE_STATE_PAID, "INVOICE_STATE") == "paid"


class TestFailures:
    @pytest.mark.parametrize(
        ("error", "code"),
        [
            (Unavailable("x"), 3),
            (Overloaded("x"), 3),
            (DeadlineExceeded("x"), 3),
            (DeliveryFailed("x", []), 3),
            (InvalidRequest("x"), 4),
            (NotFound("x"), 4),
            (FailedPrecondition("x"), 4),
            (NotAllowed("x"), 4),
            (ServerError("x"), 5),
            (BufferFull("x"), 5),
            (ValueError("x"), 5),
        ],
    )
    def test_the_exit_code_tells_the_kind(self, error: Exception, code: int) -> None:
        with pytest.raises(typer.Exit) as caught:
            fail(error)
        assert caught.value.exit_code == code

    def test_a_code_that_is_given_wins(self) -> None:
        with pytest.raises(typer.Exit) as caught:
            fail(ValueError("x"), 2)
        assert caught.value.exit_code == 2

    def test_the_message_is_on_stderr_as_it_is(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(typer.Exit):
            fail(ValueError(f"{'x' * 200}[/b]\nline \x1b[0m two"))
        out, err = capsys.readouterr()
        assert (out, err) == ("", f"error: {'x' * 200}[/b]\nline \\x1b[0m two\n")

    def test_a_field_is_named_once(self, capsys: pytest.CaptureFixture[str]) -> None:
        violation = FieldViolation("zone", "UNKNOWN", "there is no such zone")
        for message, said in [
            ("zone: there is no such zone", "error: zone: there is no such zone [UNKNOWN]\n"),
            ("wrong", "error: wrong [UNKNOWN]; zone: there is no such zone\n"),
        ]:
            with pytest.raises(typer.Exit):
                fail(InvalidRequest(message, reason="UNKNOWN", violations=[violation]))
            assert capsys.readouterr().err == said
