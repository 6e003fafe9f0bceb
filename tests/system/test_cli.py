"""The command line as a user runs it: processes against one real stack, from `up` to `down`.

A month of a customer in Berlin is sent from files; every figure the commands print is computed here by other means.
"""

from __future__ import annotations

import base64
import csv
import importlib
import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from google.protobuf.json_format import ParseDict

from libs.embedded.machine import free_port
from libs.embedded.state import StackState
from steelyard import Ack, ChargeUpdate, Endpoints, SyncClient, UsageEvent
from steelyard.ingest.v1 import log_service_pb2
from steelyard.rating.v1 import charge_pb2
from steelyard.receipts import verify as verify_receipt

PROJECT = Path(__file__).resolve().parents[2]
COMMAND = (sys.executable, "-m", "libs.cli")
BERLIN = ZoneInfo("Europe/Berlin")
PARQUET: Any = importlib.import_module("pyarrow.parquet")
CARD = {
    "rate_card_id": "standard",
    "currency": "USD",
    "prices": [
        {"price_id": "fee", "flat": {"amount": "19.99"}},
        {"price_id": "calls", "meter_id": "calls", "per_unit": {"unit_amount": "0.005"}},
        {
            "price_id": "tokens",
            "meter_id": "tokens",
            "graduated": {"tiers": [{"up_to": "10000", "unit_amount": "0"}, {"unit_amount": "0.00123"}]},
        },
    ],
}


@dataclass(frozen=True)
class Done:
    """A command that ended."""

    code: int
    out: str
    err: str


def _interrupted(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Press Ctrl-C as people do: again, if the first one met asyncio at a moment when it is lost."""
    for _ in range(6):
        process.send_signal(signal.SIGINT)
        try:
            return process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            continue
    return process.communicate(timeout=1)


# Started in the background of a script, tests inherit that Ctrl-C is ignored. Not by preexec_fn, which would fork this
# process with the threads of gRPC in it.
_ALLOW_CTRL_C = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
)


@dataclass(frozen=True)
class CommandLine:
    """A shell with settings of its own, in a folder of its own."""

    folder: Path
    settings: dict[str, str]

    def having(self, **settings: str) -> CommandLine:
        """The same shell after some `export`."""
        return CommandLine(self.folder, {**self.settings, **settings})

    def environment(self) -> dict[str, str]:
        foreign = re.compile(r"STEELYARD_|NATS_URL$|\w+_DATABASE_URL$|OTEL_|FORCE_COLOR$")
        return {name: value for name, value in os.environ.items() if not foreign.match(name)} | self.settings

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", _ALLOW_CTRL_C, *COMMAND, *arguments],
            cwd=self.folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> Done:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=180)
        assert "Traceback" not in out + err, err
        return Done(process.returncode, out, err)

    def table(self, *arguments: str, code: int = 0) -> str:
        done = self.run(*arguments)
        assert done.code == code, done
        return done.out

    def json(self, *arguments: str, code: int = 0) -> Any:
        done = self.run(*arguments, "--output", "json")
        assert done.code == code, done
        return json.loads(done.out)

    def both(self, *arguments: str, code: int = 0) -> tuple[str, Any]:
        """Run a command that changes nothing in both formats, at once; return the table and the document."""
        with ThreadPoolExecutor(2) as pool:
            text = pool.submit(self.table, *arguments, code=code)
            document = pool.submit(self.json, *arguments, code=code)
            return text.result(), document.result()


@dataclass
class Month:
    """What was sent, as somebody else would write it down."""

    quantities: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Tokens by local day of Berlin."""
    calls: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    uses: list[tuple[datetime, int]] = field(default_factory=list)

    def add(self, at: datetime, tokens: int) -> None:
        day = at.astimezone(BERLIN).date().isoformat()
        self.quantities[day] += tokens
        self.calls[day] += 1
        self.uses.append((at, tokens))

    @property
    def tokens(self) -> int:
        return sum(self.quantities.values())

    @property
    def lines(self) -> dict[str, tuple[str, str]]:
        """Quantity and amount of each line of the invoice."""
        calls = sum(self.calls.values())
        exact = {
            "fee": (1, Decimal("19.99")),
            "calls": (calls, calls * Decimal("0.005")),
            "tokens": (self.tokens, max(self.tokens - 10_000, 0) * Decimal("0.00123")),
        }
        return {name: (str(quantity), str(cents(amount))) for name, (quantity, amount) in exact.items()}

    @property
    def total(self) -> str:
        return str(sum(Decimal(amount) for _, amount in self.lines.values()))


def cents(amount: Decimal) -> Decimal:
    return amount.quantize(Decimal("0.01"), ROUND_HALF_EVEN)


def minor_units(amount: str) -> str:
    return str(int(Decimal(amount) * 100))


def eventually(look: Callable[[], Any]) -> Any:
    """Look until there is something to see; what is behind a message takes a moment."""
    give_up_at = time.monotonic() + 60
    while not (seen := look()):
        assert time.monotonic() < give_up_at, "it did not come"
        time.sleep(0.2)
    return seen


@pytest.fixture(scope="module")
def shell(server_root: Path) -> Iterator[CommandLine]:
    """A shell where `steelyard up` was run; at the end `steelyard down`, and nothing is left."""
    home = server_root / "cli"
    folder = server_root / "cli-folder"
    folder.mkdir()
    shell = CommandLine(folder, {"STEELYARD_HOME": str(home)})
    assert shell.run("env").code == 3
    up = shell.run("up", "--output", "json")
    processes = StackState(home).recorded()
    try:
        assert up.code == 0, up
        settings = json.loads(up.out)
        assert settings == shell.json("env")
        # NATS_URL in the environment would make the next `up` look for a server there instead of starting its own.
        assert all(name.startswith("STEELYARD_") for name in settings)
        assert settings["STEELYARD_OPERATOR_KEY"] not in (home / "up.log").read_text()
        yield shell
    finally:
        down = shell.run("down")
        left = [record.name for record in processes if record.find()]
    assert (down.code, down.out, left) == (0, "stopped\n", [])
    assert shell.json("down") == {"stopped": False}
    assert shell.run("env").code == 3


@pytest.fixture(scope="module")
def acme(shell: CommandLine, readme: subprocess.Popen[str]) -> CommandLine:
    """The shell of a tenant on a test clock, with meters, a rate card and a customer that pays.

    README's own tenant goes its way at the same time, on the same stack.
    """
    key = shell.json("tenants", "create", "acme", "--name", "Acme [/b]", "--test-clock", "2026-01-20")["secret"]
    acme = shell.having(STEELYARD_API_KEY=key)
    (acme.folder / "card.json").write_text(json.dumps(CARD))
    assert "sum(input + output)" in acme.table(
        "meters", "create", "tokens", "--event-type", "llm", "--sum", "input + output", "--group-by", "region"
    )
    assert acme.json("meters", "create", "calls", "--event-type", "llm")[0]["meter_id"] == "calls"
    assert "graduated" in acme.table("ratecards", "create", "card.json")
    assert "Europe/Berlin" in acme.table(
        "customers", "create", "cust-1", "--zone", "Europe/Berlin", "--name", "[red] :x:"
    )
    [subscription] = acme.json(
        "subscriptions", "create", "cust-1", "standard", "--start", "2026-01-01", "--id", "sub-1"
    )
    assert subscription["current_period"] == {"start": "2025-12-31T23:00:00Z", "end": "2026-01-31T23:00:00Z"}
    assert "cust-1" in acme.table("payments", "set-method", "cust-1", "tok_ok")
    return acme


FIRST, LAST = datetime(2025, 12, 31, 23, tzinfo=UTC), datetime(2026, 1, 20, tzinfo=UTC)


def rows_of(kind: str, count: int, month: Month, seed: int) -> list[dict[str, Any]]:
    """Make events with ids `<kind>-0`, ... somewhere in the open part of January, and write them down."""
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        at = FIRST + timedelta(seconds=rng.randrange(int((LAST - FIRST).total_seconds())))
        tokens = rng.randrange(2_000), rng.randrange(500)
        month.add(at, sum(tokens))
        rows.append({"event_id": f"{kind}-{number}", "customer_id": "cust-1", "event_type": "llm", "at": at})
        rows[-1] |= {"input": tokens[0], "output": tokens[1], "region": rng.choice(["eu", "us"])}
    return rows


def csv_of(rows: list[dict[str, Any]]) -> str:
    lines = ["event_id,event_type,customer_id,event_time,input,output,region"]
    for row in rows:
        at = row["at"].astimezone(BERLIN).isoformat()
        cells = (row["event_id"], row["event_type"], row["customer_id"], at, row["input"], row["output"], row["region"])
        lines.append(",".join(str(cell) for cell in cells))
    return "\r\n".join(lines)


def jsonl_of(rows: list[dict[str, Any]]) -> str:
    lines = []
    for row in rows:
        fields = {name: row[name] for name in ("event_id", "event_type", "customer_id")} | {"source": "gateway"}
        properties = {name: row[name] for name in ("input", "output", "region")}
        lines.append(json.dumps(fields | {"event_time": row["at"].isoformat(), "properties": properties}))
    return "\n".join(lines)


@pytest.fixture(scope="module")
def readme(shell: CommandLine) -> Iterator[subprocess.Popen[str]]:
    """A shell that follows README's "Use it" to the letter, while other tests go on."""
    text = (PROJECT / "README.md").read_text().partition("\n## Use it\n")[2].partition("\n## ")[0]
    setup, look, results = re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    [program] = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    folder = shell.folder / "readme"
    command = folder / ".venv" / "bin" / "steelyard"
    command.parent.mkdir(parents=True)
    command.write_text(f'#!/bin/sh\nexec {shlex.join(COMMAND)} "$@"\n')
    command.chmod(0o755)
    (folder / "program.py").write_text(program)
    paid = ".venv/bin/steelyard invoices list --state paid | grep -q INV-000001"
    script = [
        # A shell that remembers an earlier stack, which must not matter.
        "export STEELYARD_INGEST_TARGET=127.0.0.1:1 STEELYARD_BILLING_TARGET=127.0.0.1:1",
        'eval "$(.venv/bin/steelyard env)"',
        setup.replace(" acme ", " readme "),
        f"{shlex.quote(sys.executable)} program.py",
        look.replace(" acme ", " readme "),
        f"for n in $(seq 100); do if {paid}; then break; fi; sleep 0.2; done",
        results,
    ]
    with subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", "\n".join(script)],
        cwd=folder,
        env=shell.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        yield process
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def sending_to_nobody(acme: CommandLine) -> Iterator[subprocess.Popen[str]]:
    """A command that waits for an answer; it takes ten seconds to say so, while other tests go on."""
    (acme.folder / "never.jsonl").write_text(jsonl_of(rows_of("never", 1, Month(), seed=4)))
    nobody = acme.having(STEELYARD_INGEST_TARGET=f"127.0.0.1:{free_port()}")
    with nobody.start("events", "send", "never.jsonl") as process:
        yield process
        process.kill()


@pytest.fixture(scope="module")
def month(acme: CommandLine) -> Month:
    """January's usage, sent from a CSV and a JSONL file with bad rows and repetitions, and each file once more."""
    month = Month()
    rows = rows_of("csv", 300, month, seed=1)
    edge = {**rows[0], "input": 70, "output": 7}
    midnight = datetime(2026, 1, 6, tzinfo=BERLIN)
    for event_id, at in [("edge-1", midnight - timedelta(microseconds=1)), ("edge-2", midnight)]:
        rows.append({**edge, "event_id": event_id, "at": at})
        month.add(at, 77)
    bad = [
        {**edge, "event_id": "bad-1", "input": "many"},
        {**edge, "event_id": "bad-2", "at": datetime(2025, 1, 1, tzinfo=UTC)},
        {**edge, "event_id": "csv-1", "input": 9_999_999},
    ]
    (acme.folder / "usage.csv").write_text("\ufeff" + csv_of([*rows, *rows[:20], *bad]))
    others = rows_of("jsonl", 200, month, seed=2)
    (acme.folder / "usage.jsonl").write_text(jsonl_of([*others, *others[:5]]) + "\n")

    sent = acme.json("events", "send", "usage.csv", code=1)
    assert sent["counts"] == {"queued": 0, "recorded": 302, "duplicate": 20, "conflict": 1, "rejected": 2}
    assert {(p["event_id"], p["fate"], p["field"], p["reason"]) for p in sent["problems"]} == {
        ("bad-1", "rejected", "properties.input", "NOT_A_NUMBER"),
        ("bad-2", "rejected", "event_time", "TOO_OLD"),
        ("csv-1", "conflict", "event_id", "OTHER_CONTENT"),
    }
    assert acme.table("events", "send", "usage.jsonl") == "200 recorded, 5 duplicate\n"
    again = acme.table("events", "send", "usage.csv", code=1)
    assert again.startswith("322 duplicate, ") and "OTHER_CONTENT" in again  # noqa: PT018 - two halves of one answer
    assert acme.json("events", "send", "usage.jsonl")["counts"]["duplicate"] == 205
    return month


class TestOpenMonth:
    def test_events_are_counted_once_and_each_has_its_fate(
        self, acme: CommandLine, sending_to_nobody: subprocess.Popen[str], month: Month
    ) -> None:
        text, counts = acme.both("events", "counts")
        assert (counts["recorded"], counts["duplicate"], counts["conflict"]) == (502, 552, 2)
        assert counts["sent"] == 1_060
        assert re.search(r"recorded +502\n", text)
        text, shown = acme.both("events", "show", "cli", "csv-1")
        assert shown["status"]["verdict"] == "EVENT_VERDICT_RECORDED"
        assert shown["event"]["event"]["customer_id"] == "cust-1"
        assert text.startswith("cli csv-1: recorded, sent again 3 times\n")
        assert {item["meter_id"]: item["counted_by_window"] for item in shown["matched"]} == {
            "calls": True,
            "tokens": True,
        }
        assert (shown["matched"][0]["value"], shown["unmatched"]) == ("1", [])
        assert re.search(r"calls +1 +2026-01-\S+ to 2026-01-\S+ +- +windows", text) or "2025-12-31" in text
        text, shown = acme.both("events", "show", "gateway", "csv-1", code=1)
        assert (shown["event"], text) == (None, "gateway csv-1: unknown, sent again 0 times\n")
        text, exceptions = acme.both("events", "exceptions", "--limit", "10")
        assert sorted(item["key"]["event_id"] for item in exceptions) == sorted(["bad-1", "bad-2", "csv-1"] * 2)
        assert text.count("TOO_OLD") == 2
        text, counted = acme.both("events", "fates", "--by", "source")
        assert counted["total"] == {
            "recorded": "502",
            "duplicate": "552",
            "conflict": "2",
            "rejected": "0",
            "rejected_at_door": "4",
        }
        assert sum(int(item["counts"]["recorded"]) for item in counted["counts"]) == 502
        assert re.search(r"total +502 +552 +2 +0 +4\n", text)
        assert acme.json("events", "differences") == []
        text, newest = acme.both("events", "list", "--limit", "3", "--customer", "cust-1")
        assert len(newest) == len(text.splitlines()) - 1 == 3

    def test_the_end_of_the_month_is_estimated(self, acme: CommandLine, month: Month) -> None:
        def found() -> Any:
            forecast = acme.json("subscriptions", "forecast", "sub-1", "--as-of", "2026-01-20")
            return forecast if forecast["lines"][2]["quantity_so_far"] == str(month.tokens) else None

        forecast = eventually(found)
        fee, _, tokens = forecast["lines"]
        assert (fee["method"], tokens["method"]) == ("as_now", "daily_mean")
        assert Decimal(tokens["low_quantity"]) <= Decimal(tokens["expected_quantity"])
        # 19 whole UTC days of 1 January to 19 January are over, 11 days and 23 hours are to come.
        whole = sum(tokens_ for at, tokens_ in month.uses if datetime(2026, 1, 1, tzinfo=UTC) <= at < LAST)
        expected = month.tokens + Decimal(whole) / 19 * (Decimal(11) + Decimal(23) / 24)
        assert Decimal(tokens["expected_quantity"]) == round(expected, 6)
        text = acme.table("subscriptions", "forecast", "sub-1", "--as-of", "2026-01-20")
        assert "daily mean" in text
        assert acme.run("subscriptions", "forecast", "sub-1", "--as-of", "2025-01-20").code == 4

    def test_usage_by_day_in_a_zone(self, acme: CommandLine, month: Month) -> None:
        days = ("--start", "2026-01-01", "--end", "2026-02-01", "--window", "day", "--zone", "Europe/Berlin")
        text, rows = acme.both("usage", "tokens", *days)
        found = {
            datetime.fromisoformat(row["start_time"]).astimezone(BERLIN).date().isoformat(): int(row["value"])
            for row in rows
        }
        assert found == month.quantities
        assert [int(line.split()[-2]) for line in text.splitlines()[1:]] == [found[day] for day in sorted(found)]
        period = ("--window", "billing-period", "--anchor-day", "1", "--zone", "Europe/Berlin")
        assert [int(row["value"]) for row in acme.json("usage", "tokens", *days[:4], *period)] == [month.tokens]
        text, top = acme.both("usage", "tokens", *days[:4], "--group-by", "region", "--top", "1", "--others", *days[6:])
        assert [row.get("rank", 0) for row in top] == [1, 0]
        assert top[1]["others"]
        assert sum(int(row["value"]) for row in top) == month.tokens
        assert text.splitlines()[2].split()[-3:-1] == ["others", top[1]["value"]]
        regions = acme.json("usage", "tokens", *days[:4], "--zone", "Europe/Berlin", "--group-by", "region")
        assert sum(int(row["value"]) for row in regions) == month.tokens
        assert {row["dimensions"]["region"] for row in regions} == {"eu", "us"}

    def test_spend_and_preview_to_the_cent(self, acme: CommandLine, month: Month) -> None:
        def rated() -> Any:
            [entry] = acme.json("customers", "spend", "cust-1")["subscriptions"]
            return entry if {"tokens": str(month.tokens)}.items() <= quantities_of(entry).items() else None

        spend = eventually(rated)
        assert lines_of(spend) == month.lines
        assert f"total {month.total} USD; all that is recorded" in acme.table("customers", "spend", "cust-1")

        def previewed() -> Any:
            text, preview = acme.both("invoices", "preview", "sub-1")
            return (text, preview) if lines_of(preview) == month.lines else None

        text, preview = eventually(previewed)
        assert preview["state"] == "INVOICE_STATE_DRAFT"
        assert f"total {month.total} USD" in text
        text, charges = acme.both("ratecards", "preview", "standard", "-q", f"tokens={month.tokens}", "-q", "calls=502")
        assert cents(Decimal(charges[2]["amount"])) == Decimal(month.lines["tokens"][1])
        assert "tier (10000, open]" in text

    def test_what_was_made_is_listed(self, acme: CommandLine, month: Month) -> None:
        text, customers = acme.both("customers", "list")
        assert customers[0]["display_name"] == "[red] :x:"
        assert "[red] :x:" in text
        assert "Acme [/b]" in acme.table("tenants", "list")
        assert [item["meter_id"] for item in acme.json("meters", "list")] == ["calls", "tokens"]
        assert acme.json("ratecards", "show", "standard") == acme.json("ratecards", "list")[0]
        text, subscriptions = acme.both("subscriptions", "show", "sub-1")
        assert subscriptions == acme.json("subscriptions", "list")
        assert "2025-12-31T23:00:00Z to 2026-01-31T23:00:00Z" in text

    def test_ctrl_c_while_nobody_answers(self, month: Month, sending_to_nobody: subprocess.Popen[str]) -> None:
        assert sending_to_nobody.stderr is not None
        assert sending_to_nobody.stderr.readline() == "no answer yet, still trying\n"
        out, err = _interrupted(sending_to_nobody)
        assert (sending_to_nobody.returncode, out) == (130, "")
        assert "Traceback" not in err


@pytest.fixture(scope="module")
def paid(acme: CommandLine, month: Month) -> dict[str, Any]:
    """January's invoice, once its payment has come."""
    text = acme.table("tenants", "advance-clock", "acme", "2026-02-03")
    assert text == "acme is at 2026-02-03T00:00:00Z\n"
    [invoice] = eventually(lambda: acme.json("invoices", "list", "--state", "paid"))
    return dict(invoice)


class TestClosedMonth:
    def test_the_invoice_to_the_cent_by_id_and_by_number(
        self, acme: CommandLine, month: Month, paid: dict[str, Any]
    ) -> None:
        assert (paid["invoice_number"], paid["total"]) == (
            "INV-000001",
            {"currency": "USD", "minor_units": minor_units(month.total)},
        )
        text, shown = acme.both("invoices", "show", "INV-000001")
        assert shown == acme.json("invoices", "show", paid["invoice_id"])
        assert lines_of(shown) == month.lines
        assert text.startswith("INV-000001 for cust-1, paid\n")
        for name, (quantity, amount) in month.lines.items():
            assert re.search(rf"^{name} .* {quantity} .* {re.escape(amount)}$", text, re.MULTILINE), text
        assert f"\ntotal {month.total} USD\n" in text
        assert f"{month.total} USD" in acme.table("invoices", "list", "--customer", "cust-1")

    def test_a_line_is_explained_by_id_and_by_number(
        self, acme: CommandLine, month: Month, paid: dict[str, Any]
    ) -> None:
        text, explained = acme.both("invoices", "explain", "INV-000001", "tokens")
        assert explained == acme.json("invoices", "explain", paid["invoice_id"], "tokens")
        assert explained["invoiced"]["quantity"] == explained["charge"]["quantity"] == str(month.tokens)
        assert sum(int(day["quantity"]) for day in explained["usage"]) == month.tokens
        assert sum(int(day["event_count"]) for day in explained["usage"]) == 502
        assert text.startswith(f"tokens: {month.tokens} of tokens is {explained['charge']['amount']} USD, by standard")

    def test_another_card_is_tried_on_it(self, acme: CommandLine, month: Month, paid: dict[str, Any]) -> None:
        january = ("ratecards", "simulate", "--start", "2026-01-01", "--end", "2026-01-02", "--zone", "Europe/Berlin")
        same = acme.json(*january, "--card", "standard")
        assert (same["unchanged_count"], same["current_minor"]) == ("1", minor_units(month.total))

        tried = "\n".join(
            [
                "rate_card_id: tried",
                "currency: USD",
                "prices:",
                "- {price_id: fee, flat: {amount: '29.99'}}",
                "- {price_id: calls, meter_id: calls, per_unit: {unit_amount: '0.005'}}",
            ]
        )
        (acme.folder / "tried.yaml").write_text(tried)
        text = acme.table(*january, "-f", "tried.yaml", "--priced-by", "standard", "--out", "tried.csv")
        acme.table(*january, "-f", "tried.yaml", "--out", "tried.parquet")

        _, amount = month.lines["tokens"]
        assert "0 customers would pay more, 1 less" in text or "1 customers would pay more, 0 less" in text
        with (acme.folder / "tried.csv").open(newline="") as file:
            rows = {row["price_id"]: row for row in csv.DictReader(file)}
        assert (rows["fee"]["current_minor"], rows["fee"]["simulated_minor"]) == ("1999", "2999")
        assert (rows["tokens"]["current_minor"], rows["tokens"]["simulated_minor"]) == (minor_units(amount), "")
        assert {row["customer_id"] for row in rows.values()} == {"cust-1"}
        as_parquet = PARQUET.read_table(acme.folder / "tried.parquet").to_pylist()
        assert [row["current_minor"] for row in as_parquet if row["price_id"] == "fee"] == [1999]
        assert len(as_parquet) == len(rows) == 3
        assert acme.table("ratecards", "list").count("tried") == 0

        january_utc = ("--guard-start", "2025-12-31T00:00:00Z", "--guard-end", "2026-01-02")
        # The tenant lives in February: by its clock this is to come.
        dearer = tried.replace("_id: tried", "_id: standard").replace(
            "USD", "USD\neffective_time: 2026-03-01T00:00:00Z"
        )
        (acme.folder / "dearer.yaml").write_text(dearer)
        guarded = ("ratecards", "apply", "-f", "dearer.yaml", "--max-change", "1", *january_utc)
        refused = acme.run(*guarded)
        assert (refused.code, "would change what 1 customers pay by more than 1 %" in refused.err) == (4, True)
        assert acme.json("ratecards", "show", "standard")["version"] == 1
        (planned,) = acme.json(*guarded, "--override-reason", "agreed", "--dry-run")
        assert (planned["plan"], planned["rate_card"]["version"]) == ("next version", 2)

        both = acme.run(*january, "--card", "standard", "-f", "tried.yaml")
        assert (both.code, "name one card" in both.err) == (2, True)

    def test_the_payment_and_the_ledger(self, acme: CommandLine, month: Month, paid: dict[str, Any]) -> None:
        text, [payment] = acme.both("payments", "list", "--customer", "cust-1")
        assert payment["amount"]["minor_units"] == minor_units(month.total)
        assert (payment["state"], payment["invoice_number"]) == ("PAYMENT_STATE_SUCCEEDED", "INV-000001")
        assert re.search(rf"{re.escape(month.total)} USD +succeeded", text)
        text, shown = acme.both("payments", "show", payment["payment_id"])
        assert (shown, len(shown["attempts"])) == (payment, 1)
        assert shown["attempts"][0]["gateway_charge_id"] in text
        text, ledger = acme.both("payments", "ledger")
        assert (ledger["balanced"], ledger["transaction_count"]) == (True, "2")
        assert f"-{month.total} USD" in text

    def test_everything_agrees(self, acme: CommandLine, month: Month, paid: dict[str, Any]) -> None:
        text, checks = acme.both("reconcile")
        assert checks.keys() == {"ingest", "rating", "billing", "payments"}
        assert all(check["ok"] for items in checks.values() for check in items)
        assert text.endswith("everything agrees\n")

    def test_usage_after_the_invoice_is_pointed_out(
        self, acme: CommandLine, month: Month, paid: dict[str, Any]
    ) -> None:
        late = Month()
        (acme.folder / "late.jsonl").write_text(jsonl_of(rows_of("late", 1, late, seed=3)))
        assert acme.table("events", "send", "late.jsonl", "--no-wait") == "1 queued\n"
        changed = str(month.tokens + late.tokens)

        def explained() -> str:
            text = acme.table("invoices", "explain", "INV-000001", "tokens")
            return text if f"tokens: {changed} of tokens" in text else ""

        quantity, amount = month.lines["tokens"]
        assert eventually(explained).startswith(f"INV-000001 has {quantity} for {amount} USD; the usage has changed")


def lines_of(document: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Quantity and amount in major units of each line, to compare with Month.lines."""
    return {
        line["price_id"]: (line["quantity"], str(Decimal(line["amount"]["minor_units"]).scaleb(-2)))
        for line in document["lines"]
    }


def quantities_of(document: dict[str, Any]) -> dict[str, str]:
    return {line["price_id"]: line["quantity"] for line in document["lines"]}


METERS = """
meter_id: seats
event_type: seat
aggregation: unique_count
expression: user
operation_property: change
carry_over: true
---
{meter_id: peak, event_type: sample, aggregation: max, expression: mbps, unit: Mbit/s}
---
meter_id: median
event_type: sample
aggregation: percentile
expression: mbps
percentile: 50
---
{meter_id: storage, event_type: disk, aggregation: weighted_sum, expression: gb, level_unit: hour, carry_over: true}
"""
USAGE = [
    ("seat", "2026-01-02", {"user": "ann", "change": "add"}),
    ("seat", "2026-01-03", {"user": "bob", "change": "add"}),
    ("seat", "2026-01-05", {"user": "ann", "change": "remove"}),
    ("seat", "2026-01-06", {"user": "cyd"}),
    ("sample", "2026-01-07", {"mbps": "10"}),
    ("sample", "2026-01-08", {"mbps": "250.5"}),
    ("sample", "2026-01-09", {"mbps": "30"}),
    ("disk", "2026-01-11", {"gb": "2"}),
    ("disk", "2026-01-21", {"gb": "1"}),
]
OTHER_CARD = {
    "rate_card_id": "metered",
    "currency": "USD",
    "prices": [
        {"price_id": name, "meter_id": name, "per_unit": {"unit_amount": amount}}
        for name, amount in (("seats", "10"), ("peak", "0.1"), ("median", "1"), ("storage", "0.01"))
    ],
}
PRICE_ON_GONE = {"price_id": "gone", "meter_id": "gone", "per_unit": {"unit_amount": "1"}}
NEW_METER = "meter_id: calls\nevent_type: call\naggregation: count\n"
# 2 GB for 21 days and 1 GB for 11; in February 3 GB for 28 days, and those who were not removed.
JANUARY = {"seats": ("2", "20.00"), "peak": ("250.5", "25.05"), "median": ("30", "30.00"), "storage": ("1272", "12.72")}
FEBRUARY = {"seats": ("2", "20.00"), "peak": ("0", "0.00"), "median": ("0", "0.00"), "storage": ("2016", "20.16")}


@pytest.fixture(scope="module")
def metered(shell: CommandLine) -> CommandLine:
    key = shell.json("tenants", "create", "metered", "--test-clock", "2026-01-31")["secret"]
    metered = shell.having(STEELYARD_API_KEY=key)
    (metered.folder / "meters.yaml").write_text(METERS)
    return metered


def paid_invoices(shell: CommandLine, count: int) -> list[Any]:
    """Nothing until there are so many."""
    found: list[Any] = shell.json("invoices", "list", "--state", "paid")
    return found if len(found) == count else []


class TestMeters:
    """Meters that are no sums, from a file to invoices."""

    def test_are_applied_once_and_never_changed(self, metered: CommandLine) -> None:
        planned = metered.table("meters", "apply", "-f", "meters.yaml", "--dry-run")
        assert planned.count("create ") == 4
        assert metered.json("meters", "list") == []
        assert metered.table("meters", "apply", "-f", "meters.yaml").count("create ") == 4
        again = metered.json("meters", "apply", "-f", "meters.yaml")
        assert {item["plan"] for item in again} == {"unchanged"}
        text = metered.table("meters", "list")
        assert all(value in text for value in ("unique_count(user)", "max(mbps)", "weighted_sum(gb)"))

        (metered.folder / "other.yaml").write_text(METERS.replace("mbps, unit", "mbps * 2, unit") + "---\n" + NEW_METER)
        other = metered.json("meters", "apply", "-f", "other.yaml", code=1)
        assert [item["plan"] for item in other] == ["unchanged", "DIFFERENT", "unchanged", "unchanged", "create"]
        assert "calls" not in metered.table("meters", "list")

    def test_have_versions_until_they_are_archived(self, metered: CommandLine) -> None:
        file = metered.folder / "versions.yaml"
        file.write_text("{meter_id: gone, event_type: gone, aggregation: sum, expression: v}")
        metered.table("meters", "apply", "-f", "versions.yaml")
        file.write_text("{meter_id: gone, event_type: gone, aggregation: sum, expression: v, description: Was v.}")
        assert [item["plan"] for item in metered.json("meters", "apply", "-f", "versions.yaml")] == ["update"]
        assert [item["plan"] for item in metered.json("meters", "apply", "-f", "versions.yaml")] == ["unchanged"]

        assert metered.json("meters", "archive", "gone")[0]["archive_time"]

        text, shown = metered.both("meters", "show", "gone")
        assert [item["version"] for item in shown["versions"]] == [3, 2, 1]
        assert [item.get("description") for item in shown["versions"]] == ["Was v.", "Was v.", ""]
        assert shown["versions"][0]["actor"]
        assert "Was v." in text
        assert [item["plan"] for item in metered.json("meters", "apply", "-f", "versions.yaml", code=1)] == ["ARCHIVED"]
        assert "gone" not in metered.table("meters", "list")
        assert "gone" in metered.table("meters", "list", "--all")
        card = {"rate_card_id": "late", "currency": "USD", "prices": [PRICE_ON_GONE]}
        (metered.folder / "late.json").write_text(json.dumps(card))
        done = metered.run("ratecards", "create", "late.json")
        assert (done.code, "counts no more events" in done.err) == (4, True), done

    def test_that_are_wrong_are_refused_with_all_others_of_the_file(self, metered: CommandLine) -> None:
        (metered.folder / "wrong.yaml").write_text(f"{NEW_METER}---\n{NEW_METER.replace('calls', 'b')}percentile: 3\n")
        done = metered.run("meters", "apply", "-f", "wrong.yaml")
        assert (done.code, "percentile" in done.err) == (4, True), done
        (metered.folder / "unread.yaml").write_text("aggregation: total\n")
        done = metered.run("meters", "apply", "-f", "unread.yaml")
        assert (done.code, "document 1: aggregation: must be one of count, sum" in done.err) == (2, True), done
        assert "calls" not in metered.table("meters", "list")

    def test_are_charged_exactly_and_carry_over(self, metered: CommandLine) -> None:
        metered.table("meters", "apply", "-f", "meters.yaml")
        (metered.folder / "metered.json").write_text(json.dumps(OTHER_CARD))
        metered.table("ratecards", "create", "metered.json")
        metered.table("customers", "create", "cust-1")
        metered.table("payments", "set-method", "cust-1", "tok_ok")
        metered.json("subscriptions", "create", "cust-1", "metered", "--start", "2026-01-01", "--id", "sub-m")
        lines = [
            {
                "event_id": f"m{number}",
                "customer_id": "cust-1",
                "event_type": event_type,
                "event_time": f"{day}T00:00:00Z",
                "properties": properties,
            }
            for number, (event_type, day, properties) in enumerate(USAGE)
        ]
        (metered.folder / "metered.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        assert metered.table("events", "send", "metered.jsonl") == f"{len(USAGE)} recorded\n"

        def charged() -> Any:
            preview = metered.json("invoices", "preview", "sub-m")
            return quantities_of(preview) == {name: quantity for name, (quantity, _) in JANUARY.items()}

        eventually(charged)
        for month, expected in (("2026-02-02", JANUARY), ("2026-03-02", FEBRUARY)):
            metered.table("tenants", "advance-clock", "metered", month)
            count = 2 if expected is FEBRUARY else 1
            invoices = eventually(partial(paid_invoices, metered, count))
            newest = max(invoices, key=lambda invoice: invoice["invoice_number"])
            assert lines_of(metered.json("invoices", "show", newest["invoice_id"])) == expected
        text, explained = metered.both("invoices", "explain", "INV-000001", "peak")
        assert explained["charge"]["quantity"] == "250.5"
        assert [day.get("quantity", "") for day in explained["usage"]] == ["", "", ""]
        assert "250.5" in text
        assert all(check["ok"] for items in metered.json("reconcile").values() for check in items)


@pytest.fixture(scope="module")
def numbered(shell: CommandLine) -> CommandLine:
    key = shell.json("tenants", "create", "numbered", "--test-clock", "2026-01-20")["secret"]
    numbered = shell.having(STEELYARD_API_KEY=key)
    (numbered.folder / "numbered.json").write_text(json.dumps(CARD))
    for meter in ("calls", "tokens"):
        numbered.table("meters", "create", meter, "--event-type", "llm")
    numbered.table("ratecards", "create", "numbered.json")
    numbered.table("customers", "create", "cust-1")
    numbered.table("payments", "set-method", "cust-1", "tok_ok")
    numbered.json("subscriptions", "create", "cust-1", "standard", "--start", "2026-01-01", "--id", "sub-n")
    expected = numbered.json("sources", "expect", "gateway", "--allowance-s", "0", "--hold", "sequence-gap")
    assert expected[0]["holding_kinds"] == ["FINDING_KIND_SEQUENCE_GAP"]
    return numbered


class TestMissingUsage:
    """A number that does not come holds the invoice until it does, or somebody says why it will not."""

    def test_holds_the_invoice_until_a_person_lets_it_go(self, shell: CommandLine, numbered: CommandLine) -> None:
        endpoints = Endpoints.from_env(shell.json("env"))
        at = datetime(2026, 1, 10, tzinfo=UTC)
        events = [
            UsageEvent("llm", "cust-1", event_id=f"n{number}", event_time=at, sequence=number, sequence_epoch="life")
            for number in (5, 1, 2, 4)
        ]
        key = numbered.settings["STEELYARD_API_KEY"]
        with SyncClient(api_key=key, endpoints=endpoints, source="gateway") as client:
            client.send(events, ack=Ack.RECORDED)
        numbered.table("tenants", "advance-clock", "numbered", "2026-02-03")

        def held() -> Any:
            [progress] = numbered.json("invoices", "waiting")
            return progress["holds"] and progress["due_periods"] == "1" and progress["holds"]

        [reason] = eventually(held)
        assert "sequence_gap" in reason
        [finding] = eventually(lambda: numbered.json("findings", "list"))
        assert (finding["sequence"]["first_missing"], finding["holds_invoices"]) == ("3", True)
        assert numbered.json("invoices", "list", "--state", "issued") == []
        assert numbered.json("invoices", "list", "--state", "paid") == []

        ended = numbered.table("findings", "resolve", finding["finding_id"], "--reason", "never used", "--actor", "ann")

        assert "ann: never used" in ended
        [invoice] = eventually(partial(paid_invoices, numbered, 1))
        assert lines_of(numbered.json("invoices", "show", invoice["invoice_id"]))["calls"][0] == "4"
        assert numbered.json("findings", "list") == []
        assert numbered.json("invoices", "waiting")[0]["holds"] == []


CORRECTED_CARD = {
    "rate_card_id": "corrected",
    "currency": "USD",
    "prices": [
        {"price_id": name, "meter_id": name, "per_unit": {"unit_amount": amount}}
        for name, amount in (("tokens", "0.01"), ("peak", "1"))
    ],
}


@pytest.fixture(scope="module")
def corrected(shell: CommandLine) -> CommandLine:
    """A tenant with a sum and a greatest value, of which the latter has to be asked for again after each correction."""
    key = shell.json("tenants", "create", "corrected", "--test-clock", "2026-01-20")["secret"]
    corrected = shell.having(STEELYARD_API_KEY=key)
    (corrected.folder / "corrected.json").write_text(json.dumps(CORRECTED_CARD))
    (corrected.folder / "corrected.yaml").write_text(
        "{meter_id: tokens, event_type: llm, aggregation: sum, expression: tokens}\n---\n"
        "{meter_id: peak, event_type: llm, aggregation: max, expression: tokens}\n"
    )
    corrected.table("meters", "apply", "-f", "corrected.yaml")
    corrected.table("ratecards", "create", "corrected.json")
    corrected.table("customers", "create", "cust-1")
    corrected.table("payments", "set-method", "cust-1", "tok_ok")
    corrected.json("subscriptions", "create", "cust-1", "corrected", "--start", "2026-01-01", "--id", "sub-c")
    return corrected


class TestCorrections:
    """From a wrong event to the invoice, and past it."""

    def test_change_the_open_period_and_point_out_the_closed_one(self, corrected: CommandLine) -> None:
        def charged(**expected: str) -> None:
            eventually(lambda: quantities_of(corrected.json("invoices", "preview", "sub-c")) == expected)

        rows = [
            f"{event_id},llm,cust-1,2026-01-{day:02}T12:00:00Z,{tokens}"
            for event_id, day, tokens in (
                ("a", 3, 9_000),
                ("b", 3, 70),
                ("c", 4, 500),
                ("d", 5, 6),
                ("never", 6, 8_000),
            )
        ]
        header = "event_id,event_type,customer_id,event_time,tokens"
        (corrected.folder / "wrong.csv").write_text("\n".join((header, *rows)))
        assert corrected.table("events", "void", "never", "--reason", "test machine") == "1 waiting\n"
        assert corrected.table("events", "send", "wrong.csv") == "5 recorded\n"
        charged(tokens="9576", peak="9000")
        before = datetime.now(UTC).isoformat()

        assert corrected.table("events", "void", "a", "--reason", "test machine", "--actor", "ann") == "1 applied\n"
        charged(tokens="576", peak="500")

        (corrected.folder / "right.jsonl").write_text(
            '{"replaces": "c", "event_type": "llm", "customer_id": "cust-1", "event_time": "2026-01-04T12:00:00Z",'
            ' "properties": {"tokens": 50}}\n'
        )
        replace = ("events", "replace", "right.jsonl", "--reason", "wrong unit")
        assert [item["result"]["outcome"] for item in corrected.json(*replace)] == ["CORRECTION_OUTCOME_APPLIED"]
        assert corrected.table(*replace) == "1 already\n"
        charged(tokens="126", peak="70")

        text, shown = corrected.both("events", "show", "cli", "c")
        assert shown["event"]["correction"]["replacement"]["event_id"].startswith("replacement-")
        assert "superseded by replacement-" in text
        text, listed = corrected.both("events", "corrections")
        assert [item["key"]["event_id"] for item in listed] == ["c", "a", "never"]
        assert re.search(r"a +void +ann +test machine", text)
        assert corrected.run("events", "void", "c", "--reason", "again").code == 1

        corrected.table("tenants", "advance-clock", "corrected", "2026-02-02")
        [invoice] = eventually(partial(paid_invoices, corrected, 1))
        expected = {"tokens": ("126", "1.26"), "peak": ("70", "70.00")}
        assert lines_of(corrected.json("invoices", "show", invoice["invoice_id"])) == expected

        (corrected.folder / "ids.txt").write_text("b\n")
        assert corrected.table("events", "void", "--file", "ids.txt", "--reason", "found late") == "1 applied\n"

        def explained() -> str:
            text = corrected.table("invoices", "explain", invoice["invoice_id"], "tokens")
            return text if "tokens: 56 of tokens" in text else ""

        assert "has 126 for 1.26 USD; the usage has changed" in eventually(explained)
        assert lines_of(corrected.json("invoices", "show", invoice["invoice_id"])) == expected
        _, now = corrected.both("charges", "list", "sub-c", "--at", "2026-01-10")
        text, then = corrected.both("charges", "list", "sub-c", "--at", "2026-01-10", "--known-at", before)
        assert {charge["price_id"]: charge["quantity"] for charge in now} == {"tokens": "56", "peak": "50"}
        assert {charge["price_id"]: charge["quantity"] for charge in then} == {"tokens": "9576", "peak": "9000"}
        assert re.search(r"tokens +tokens +9,?576 +95\.76 USD", text)
        january = ("charges", "rerate", "--start", "2026-01-01", "--end", "2026-02-01")
        text, tried = corrected.both(*january, "--dry-run")
        assert (tried["period_count"], tried.get("charges", [])) == (1, [])
        assert text.endswith("1 billing periods, 0 charges would change\n")
        assert corrected.run(*january).code == 2
        assert corrected.table(*january, "--reason", "to be sure").endswith("1 billing periods, 0 charges change\n")
        assert corrected.json("charges", "reratings") == []
        eventually(lambda: all(check["ok"] for items in corrected.json("reconcile").values() for check in items))


REPLAYED_CARD = {
    "rate_card_id": "replayed",
    "currency": "USD",
    "prices": [
        {"price_id": "calls", "meter_id": "calls", "per_unit": {"unit_amount": "0.01"}},
        {"price_id": "tokens", "meter_id": "tokens", "per_unit": {"unit_amount": "0.001"}},
    ],
}


class TestReplays:
    """A meter that is made after the usage, and counts it after all: from the comparison to the invoice."""

    def test_have_a_new_meter_charge_what_was_recorded_before_it(self, shell: CommandLine) -> None:
        key = shell.json("tenants", "create", "replayed", "--test-clock", "2026-01-20")["secret"]
        replayed = shell.having(STEELYARD_API_KEY=key)
        replayed.table("meters", "create", "calls", "--event-type", "llm")
        replayed.table("customers", "create", "cust-1")
        replayed.table("payments", "set-method", "cust-1", "tok_ok")
        rows = [f"r{number},llm,cust-1,2026-01-{number:02}T12:00:00Z,{number * 100}" for number in range(1, 6)]
        (replayed.folder / "early.csv").write_text(
            "event_id,event_type,customer_id,event_time,tokens\n" + "\n".join(rows)
        )
        assert replayed.table("events", "send", "early.csv") == "5 recorded\n"
        replayed.table("events", "void", "r5", "--source", "cli", "--reason", "test machine")
        (replayed.folder / "replayed.json").write_text(json.dumps(REPLAYED_CARD))
        replayed.table("meters", "create", "tokens", "--event-type", "llm", "--sum", "tokens")
        replayed.table("ratecards", "create", "replayed.json")
        replayed.json("subscriptions", "create", "cust-1", "replayed", "--start", "2026-01-01", "--id", "sub-r")

        def charged(**expected: str) -> None:
            eventually(lambda: quantities_of(replayed.json("invoices", "preview", "sub-r")) == expected)

        charged(calls="4", tokens="0")
        [nothing] = replayed.json("replay", "start", "--dry-run")
        assert (nothing["state"], nothing["progress"]["windows_differing"]) == ("REPLAY_STATE_DONE", "0")
        [ready] = replayed.json("replay", "start", "--backfill", "--meter", "tokens", "--to", "2026-02-01T00:00:00Z")
        assert (ready["state"], ready["progress"]["events_measured"]) == ("REPLAY_STATE_READY", "4")
        replay_id = ready["replay_id"]
        text, found = replayed.both("replay", "differences", replay_id)
        assert [item["built_value"] for item in found] == ["100", "200", "300", "400"]
        assert text.count("tokens") == 4
        charged(calls="4", tokens="0")

        [done] = replayed.json("replay", "confirm", replay_id)

        assert (done["state"], done["progress"]["windows_swapped"]) == ("REPLAY_STATE_DONE", "4")
        charged(calls="4", tokens="1000")
        assert replayed.table("events", "void", "r4", "--source", "cli", "--reason", "test machine") == "1 applied\n"
        charged(calls="3", tokens="600")
        refused = replayed.run("replay", "cancel", replay_id)
        assert (refused.code, "done" in refused.err) == (4, True), refused
        text, listed = replayed.both("replay", "list")
        assert [item["replay_id"] for item in listed] == [replay_id, nothing["replay_id"]]
        assert "backfill" in text
        assert replayed.json("replay", "show", replay_id)[0]["state"] == "REPLAY_STATE_DONE"
        replayed.table("tenants", "advance-clock", "replayed", "2026-02-02")
        [invoice] = eventually(partial(paid_invoices, replayed, 1))
        expected = {"calls": ("3", "0.03"), "tokens": ("600", "0.60")}
        assert lines_of(replayed.json("invoices", "show", invoice["invoice_id"])) == expected
        eventually(lambda: all(check["ok"] for items in replayed.json("reconcile").values() for check in items))


class TestExitCodes:
    def test_no_service_is_reachable(self, acme: CommandLine) -> None:
        nobody = f"127.0.0.1:{free_port()}"
        done = acme.having(STEELYARD_BILLING_TARGET=nobody).run("customers", "list")
        assert (done.code, done.out) == (3, "")
        assert nobody in done.err
        # The usual cause: this shell still has the ports of an earlier stack.
        assert 'eval "$(steelyard env)"' in done.err

    def test_refused(self, acme: CommandLine) -> None:
        for command, said in [
            (("customers", "spend", "nobody"), "CUSTOMER_NOT_FOUND"),
            (("subscriptions", "create", "nobody", "standard"), "CUSTOMER_NOT_FOUND"),
            (("customers", "create", "\x1b[31m"), "customer_id"),
        ]:
            done = acme.run(*command, "--output", "json")
            assert (done.code, done.out, said in done.err) == (4, "", True), done

    def test_a_key_that_is_wrong_or_revoked(self, acme: CommandLine) -> None:
        done = acme.having(STEELYARD_API_KEY="sy_wrong").run("customers", "list")
        assert (done.code, "API_KEY_INVALID" in done.err) == (4, True)
        exported = acme.run("tenants", "create-key", "acme", "--name", "second")
        name, _, secret = exported.out.removeprefix("export ").strip().partition("=")
        assert (name, "shown this once" in exported.err) == ("STEELYARD_API_KEY", True)
        second = acme.having(STEELYARD_API_KEY=secret)
        eventually(lambda: second.run("customers", "list").code == 0)
        [key] = [key for key in acme.json("tenants", "keys", "acme") if key["display_name"] == "second"]
        assert key["key_id"] in acme.table("tenants", "revoke-key", "acme", key["key_id"])
        eventually(lambda: second.run("customers", "list").code == 4)

    def test_wrong_usage_names_the_line(self, acme: CommandLine) -> None:
        (acme.folder / "half.csv").write_text("event_id,customer_id,event_time\ne1,c,2026-01-02T00:00:00Z\ne2,c\n")
        done = acme.run("events", "send", "half.csv", "--type", "llm")
        assert (done.code, done.out) == (2, "")
        before, error = done.err.splitlines()
        assert before.startswith("events answered before that: 1; the same command goes on behind them")
        assert error == "error: half.csv:3: 2 cells, but the header has 3"

    def test_failed_otherwise(self, acme: CommandLine) -> None:
        (acme.folder / "file").touch()
        done = acme.having(STEELYARD_HOME=str(acme.folder / "file")).run("up")
        assert (done.code, done.out) == (5, "")


class TestReadme:
    def test_use_it_works_as_it_is_written(self, readme: subprocess.Popen[str]) -> None:
        out, err = readme.communicate(timeout=180)
        assert readme.returncode == 0, out + err
        assert re.search(r"INV-000001 +cust-1 .* 20\.00 USD +paid", out), out
        assert "of tokens is 0 USD, by pay-as-you-go version 1" in out
        assert re.search(r" all +1052 +1\n", out), out
        assert out.endswith("everything agrees\n")


PRICED = """
rate_card_id: calls
currency: USD
prices:
- price_id: calls
  meter_id: priced_calls
  unit_conversion: {divide_by: 1000, rounding: ceil}
  per_unit: {unit_amount: 0.50}
  minimum_amount: 1
  discounts: [{percent: 10}]
---
rate_card_id: payments
currency: EUR
prices:
- price_id: payments
  meter_id: priced_calls
  percentage: {rate_percent: 2.9, fixed_per_event: 0.30}
"""


MATRIX = """
rate_card_id: sms
currency: USD
prices:
- price_id: sms
  meter_id: priced_sms
  matrix:
    default_unit_amount: 0.10
    rows: [{match: {country: US}, unit_amount: 0.008}]
"""


class TestRateCards:
    """Rate cards from a file, and what they would cost."""

    def test_are_applied_once_and_changed_by_versions(self, metered: CommandLine) -> None:
        (metered.folder / "cards.yaml").write_text(PRICED)
        refused = metered.run("ratecards", "apply", "-f", "cards.yaml")
        assert (refused.code, "line 6: prices[0].meter_id: there is no meter priced_calls" in refused.err) == (4, True)
        metered.table("meters", "create", "priced_calls", "--event-type", "call")

        assert metered.table("ratecards", "apply", "-f", "cards.yaml", "--dry-run").count("create ") == 2
        assert "payments" not in metered.table("ratecards", "list")
        assert metered.table("ratecards", "apply", "-f", "cards.yaml").count("create ") == 2
        again = metered.json("ratecards", "apply", "-f", "cards.yaml")
        assert [(item["plan"], item["rate_card"]["version"]) for item in again] == [("unchanged", 1)] * 2

        changed = PRICED.replace("0.50", "0.60")
        (metered.folder / "changed.yaml").write_text(changed)
        refused = metered.run("ratecards", "apply", "-f", "changed.yaml")
        assert (refused.code, "RATE_CARD_EFFECTIVE_TIME_NOT_LATER" in refused.err) == (4, True)
        past = changed.replace("currency: USD", "currency: USD\neffective_time: 2026-01-01T00:00:00Z")
        (metered.folder / "past.yaml").write_text(past)
        refused = metered.run("ratecards", "apply", "-f", "past.yaml")
        assert (refused.code, "effective_time: is over" in refused.err) == (4, True), refused.err
        line = next(n for n, text in enumerate(past.splitlines(), 1) if "effective_time" in text)
        assert f"line {line}: effective_time" in refused.err
        (planned,) = metered.json("ratecards", "apply", "-f", "past.yaml", "--allow-past", "--dry-run")[:1]
        assert (planned["plan"], planned["rate_card"]["version"]) == ("next version", 2)

        dated = changed.replace("currency: USD", "currency: USD\neffective_time: 2027-01-01T00:00:00Z")
        (metered.folder / "dated.yaml").write_text(dated)
        applied = metered.json("ratecards", "apply", "-f", "dated.yaml")
        assert [(item["plan"], item["rate_card"]["version"]) for item in applied] == [
            ("next version", 2),
            ("unchanged", 1),
        ]

    def test_are_archived_and_opened_again(self, metered: CommandLine) -> None:
        metered.run("meters", "create", "priced_calls", "--event-type", "call")
        (metered.folder / "cards.yaml").write_text(PRICED.replace("_id: calls", "_id: closed"))
        metered.table("ratecards", "apply", "-f", "cards.yaml")
        assert "replaced" in metered.table("ratecards", "archive", "closed", "--reason", "replaced")
        assert "archive" not in metered.table("ratecards", "export", "closed")
        metered.run("customers", "create", "late")
        refused = metered.run("subscriptions", "create", "late", "closed")
        assert (refused.code, "RATE_CARD_ARCHIVED" in refused.err) == (4, True)
        metered.table("ratecards", "unarchive", "closed")
        [created] = metered.json("subscriptions", "create", "late", "closed", "--id", "sub-late")
        assert created["rate_card_id"] == "closed"

    def test_are_cloned_and_compared(self, metered: CommandLine) -> None:
        metered.run("meters", "create", "priced_calls", "--event-type", "call")
        (metered.folder / "cards.yaml").write_text(PRICED.replace("_id: calls", "_id: original"))
        metered.table("ratecards", "apply", "-f", "cards.yaml")
        (copy,) = metered.json("ratecards", "clone", "original@1", "copy")
        assert (copy["rate_card_id"], copy["version"], copy["currency"]) == ("copy", 1, "USD")

        text = metered.table("ratecards", "diff", "original", "copy", code=1)
        changed = [line for line in text.splitlines() if line.startswith(("-", "+")) and line[1] not in "-+"]
        assert changed == ["-rate_card_id: original", "+rate_card_id: copy"]
        assert metered.json("ratecards", "diff", "copy", "copy@1") == {"same": True, "diff": []}
        assert metered.run("ratecards", "diff", "copy", "copy@7").code == 4

    def test_come_back_as_they_were_written_and_cost_what_they_say(self, metered: CommandLine) -> None:
        metered.run("meters", "create", "priced_calls", "--event-type", "call")
        (metered.folder / "cards.yaml").write_text(PRICED.replace("_id: calls", "_id: exported"))
        metered.table("ratecards", "apply", "-f", "cards.yaml")
        (metered.folder / "exported.yaml").write_text(metered.table("ratecards", "export", "exported"))
        (same,) = metered.json("ratecards", "apply", "-f", "exported.yaml")
        assert (same["plan"], same["rate_card"]["version"]) == ("unchanged", 1)

        (charge,) = metered.json("ratecards", "preview", "exported", "-q", "priced_calls=4001")
        assert (charge["amount"], [part["kind"] for part in charge["parts"]]) == (
            "2.25",
            ["converted", "per_unit", "discount"],
        )
        (charge,) = metered.json("ratecards", "preview", "payments", "-q", "priced_calls=100", "-e", "priced_calls=2")
        assert charge["amount"] == "3.5"

    def test_are_overridden_for_one_customer(self, metered: CommandLine) -> None:
        metered.run("meters", "create", "priced_calls", "--event-type", "call")
        (metered.folder / "cards.yaml").write_text(PRICED.replace("_id: calls", "_id: agreed"))
        metered.table("ratecards", "apply", "-f", "cards.yaml")
        agreed = "\n".join(
            [
                "override_id: contract-7",
                "rate_card_id: agreed",
                "customer_id: cust-1",
                "reason: 'signed 2026-01-20'",
                "prices:",
                "- {price_id: agreed, meter_id: priced_calls, per_unit: {unit_amount: '-0.1'}}",
            ]
        )
        (metered.folder / "agreed.yaml").write_text(agreed)
        refused = metered.run("overrides", "create", "-f", "agreed.yaml")
        assert (refused.code, "line 6: prices[0].per_unit.unit_amount: must not be negative" in refused.err) == (
            4,
            True,
        )

        (metered.folder / "agreed.yaml").write_text(agreed.replace("-0.1", "0.1"))
        assert "agreed (per_unit)" in metered.table("overrides", "create", "-f", "agreed.yaml")
        text, (listed,) = metered.both("overrides", "list", "--customer", "cust-1")
        assert (listed["override_id"], "signed 2026-01-20" in text) == ("contract-7", True)
        (ended,) = metered.json("overrides", "end", "contract-7", "--at", "2026-03-01")
        assert ended["end_time"] == "2026-03-01T00:00:00Z"

    def test_can_be_matrices(self, metered: CommandLine) -> None:
        metered.table("meters", "create", "priced_sms", "--event-type", "sms", "--group-by", "country")
        (metered.folder / "sms.yaml").write_text(MATRIX)
        metered.table("ratecards", "apply", "-f", "sms.yaml")
        (metered.folder / "exported.yaml").write_text(metered.table("ratecards", "export", "sms"))
        (same,) = metered.json("ratecards", "apply", "-f", "exported.yaml")
        assert same["plan"] == "unchanged"
        preview = ("ratecards", "preview", "sms", "-b", "priced_sms=1000:country=US", "-b", "priced_sms=5:country=BR")
        text, (charge,) = metered.both(*preview)
        assert (charge["amount"], charge["quantity"], "row (country=US)" in text) == ("8.5", "1005", True)

    def test_that_are_wrong_are_refused_by_line_and_nothing_is_stored(self, metered: CommandLine) -> None:
        metered.run("meters", "create", "priced_calls", "--event-type", "call")
        new = PRICED.replace("_id: calls", "_id: fresh").replace("_id: payments", "_id: wrong")
        (metered.folder / "wrong.yaml").write_text(new.replace("rate_percent: 2.9", "rate_percent: -2.9"))
        refused = metered.run("ratecards", "apply", "-f", "wrong.yaml")
        assert (refused.code, "line 17: prices[0].percentage.rate_percent: must not be negative" in refused.err) == (
            4,
            True,
        )
        (metered.folder / "unread.yaml").write_text("rate_card: a\n")
        refused = metered.run("ratecards", "apply", "-f", "unread.yaml")
        assert (refused.code, "line 1: rate_card: is no field" in refused.err) == (2, True), refused
        assert "fresh" not in metered.table("ratecards", "list")


class TestSealedLog:
    """What was recorded is linked and sealed; a producer keeps proofs, and finds out if the log was altered."""

    def test_from_events_to_proofs_that_are_kept(self, shell: CommandLine) -> None:
        key = shell.json("tenants", "create", "sealed", "--test-clock", "2026-01-20")["secret"]
        sealed = shell.having(STEELYARD_API_KEY=key)
        sealed.table("meters", "create", "calls", "--event-type", "llm")
        at = datetime(2026, 1, 10, 8, 30, tzinfo=UTC)
        events = [UsageEvent("llm", "cust-1", {"tokens": n}, f"e{n}", at, "gateway") for n in range(4)]

        def send(*chosen: UsageEvent) -> None:
            with SyncClient(api_key=key, endpoints=Endpoints.from_env(shell.json("env"))) as client:
                client.send(chosen, ack=Ack.RECORDED)

        send(*events[:3])
        [first] = eventually(lambda: sealed.json("log", "seals"))
        [head] = sealed.json("log", "head")
        send(events[3])
        assert eventually(lambda: len(sealed.json("log", "seals")) == 2)

        text, seals = sealed.both("log", "seals")
        _, sums = sealed.both("log", "seal", "2026-01-10T08:00:00Z")
        receipts = sealed.json("log", "receipt", "gateway", "e0", "e3")
        text_of_head = f"{head['head']['position']}:{base64.b64decode(head['head']['chain_hash']).hex()}"
        verified = sealed.table("log", "verify", "--kept", text_of_head)

        assert [(seal["version"], seal["cause"], seal["event_count"]) for seal in seals] == [
            (2, "late", "4"),
            (1, "first", "3"),
        ]
        assert ("late" in text, seals[1]) == (True, first)
        assert [(item["customer_id"], item["value_sum"]) for item in sums] == [("cust-1", "4")]
        for result, event in zip(receipts, (events[0], events[3]), strict=True):
            receipt = ParseDict(result, log_service_pb2.ReceiptResult()).receipt
            verify_receipt(receipt, event, tenant_id="sealed")
        assert "nothing was altered" in verified
        assert sealed.json("log", "verify", "--to", "1")["verified_links"] == "1"

        forged = sealed.run("log", "verify", "--kept", f"1:{'00' * 32}")
        assert (forged.code, "altered (chain): position 1:" in forged.err) == (1, True)
        assert sealed.run("log", "receipt", "gateway", "never sent").code == 1
        assert sealed.run("log", "verify", "--kept", "head").code == 2


PRORATED = """
rate_card_id: prorated
currency: EUR
prices:
- {price_id: by_day, flat: {amount: 99.99}, proration: by_day}
- {price_id: by_second, flat: {amount: 99.99}, proration: by_second}
- {price_id: whole, flat: {amount: 9.99}}
- {price_id: messages, meter_id: messages, included_quantity: 62, per_unit: {unit_amount: 1}, proration: by_day}
"""


class TestProration:
    def test_a_start_and_an_end_in_the_middle_of_a_month_cost_their_share(self, shell: CommandLine) -> None:
        """March has 31 days in Berlin and, because clocks change on the 29th, 743 hours."""
        key = shell.json("tenants", "create", "parts", "--test-clock", "2026-03-16")["secret"]
        parts = shell.having(STEELYARD_API_KEY=key)
        parts.table("meters", "create", "messages", "--event-type", "message")
        (parts.folder / "prorated.yaml").write_text(PRORATED)
        parts.table("ratecards", "apply", "-f", "prorated.yaml")
        parts.table("ratecards", "clone", "prorated", "upgraded")
        for customer, first in (("starts", "2026-03-15"), ("ends", "2026-03-01"), ("changes", "2026-03-01")):
            parts.table("customers", "create", customer, "--zone", "Europe/Berlin")
            parts.table("subscriptions", "create", customer, "prorated", "--start", first, "--id", f"sub-{customer}")
        events = [
            {"event_id": f"{customer}-{n}", "customer_id": customer, "event_type": "message", "source": "gateway"}
            | {"event_time": "2026-03-15T12:00:00Z"}
            for customer in ("starts", "ends", "changes")
            for n in range(45)
        ]
        (parts.folder / "messages.jsonl").write_text("\n".join(map(json.dumps, events)))
        parts.table("events", "send", "messages.jsonl")
        (ended,) = parts.json("subscriptions", "cancel", "sub-ends", "--last-date", "2026-03-20")
        assert ended["end_time"] == ended["current_period"]["end"] == "2026-03-20T23:00:00Z"
        (split,) = parts.json("subscriptions", "change-card", "sub-changes", "upgraded", "--first-date", "2026-03-11")
        assert (split["rate_card_id"], split["current_period"]["start"]) == ("upgraded", "2026-03-10T23:00:00Z")
        refused = parts.run("subscriptions", "cancel", "sub-starts", "--last-date", "2026-04-01")
        assert (refused.code, "last_date" in refused.err) == (4, True), refused

        parts.table("tenants", "advance-clock", "parts", "2026-04-02")
        invoices = eventually(lambda: _issued(parts, 4))

        lines = {
            f"{invoice['customer_id']} {invoice['period']['end'][:10]}": {
                line["price_id"]: int(line["amount"]["minor_units"])
                for line in parts.json("invoices", "show", invoice["invoice_id"])["lines"]
            }
            for invoice in invoices
        }
        # 45 messages, all on the 15th, of which 62 x 17 / 31 = 34, 62 x 20 / 31 = 40 or 62 x 21 / 31 = 42 are included.
        assert lines == {
            f"{who} {end}": {
                "by_day": _share(days, 31),
                "by_second": _share(hours, 743),
                "whole": 999,
                "messages": messages,
            }
            for who, end, days, hours, messages in (
                ("starts", "2026-03-31", 17, 407, 1100),
                ("ends", "2026-03-20", 20, 480, 500),
                ("changes", "2026-03-10", 10, 240, 0),
                ("changes", "2026-03-31", 21, 503, 300),
            )
        }
        shown = parts.table("invoices", "show", next(i["invoice_id"] for i in invoices if i["customer_id"] == "ends"))
        assert "prorated (days)" in shown
        assert all(check["ok"] for items in parts.json("reconcile").values() for check in items)

    def test_is_shown_before_it_happens(self, shell: CommandLine) -> None:
        key = shell.json("tenants", "create", "previews", "--test-clock", "2026-03-16")["secret"]
        previews = shell.having(STEELYARD_API_KEY=key)
        previews.table("meters", "create", "messages", "--event-type", "message")
        (previews.folder / "prorated.yaml").write_text(PRORATED)
        previews.table("ratecards", "apply", "-f", "prorated.yaml")

        march = ("--whole", "2026-03-01/2026-04-01", "--zone", "Europe/Berlin", "-q", "messages=45")
        text, charges = previews.both("ratecards", "preview", "prorated", "--period", "2026-03-15/2026-04-01", *march)

        assert [charge["amount"] for charge in charges] == ["54.833225806452", "54.772449528937", "9.99", "11"]
        assert "prorated (seconds)" in text


class TestEstimates:
    def test_an_event_costs_what_it_was_said_to(self, shell: CommandLine) -> None:
        key = shell.json("tenants", "create", "estimates", "--test-clock", "2026-01-20")["secret"]
        tenant = shell.having(STEELYARD_API_KEY=key)
        tenant.table("meters", "create", "calls", "--event-type", "llm")
        tenant.table("meters", "create", "tokens", "--event-type", "llm", "--sum", "input + output")
        (tenant.folder / "estimates.json").write_text(json.dumps(CARD))
        tenant.table("ratecards", "create", "estimates.json")
        tenant.table("customers", "create", "cust-1")
        tenant.table("subscriptions", "create", "cust-1", "standard", "--start", "2026-01-01", "--id", "sub-1")
        event: dict[str, Any] = {"customer_id": "cust-1", "event_type": "llm", "event_time": "2026-01-15T12:00:00Z"}
        event |= {"properties": {"input": 9_000, "output": 1_500}}
        (tenant.folder / "event.json").write_text(json.dumps(event, indent=2))
        estimate = ("events", "estimate", "-f", "event.json")

        def priced() -> Any:
            [period] = tenant.json(*estimate)["periods"] or [None]
            return period if period and not period["problem"] else None

        first = eventually(priced)
        text = tenant.table(*estimate)
        # 10,500 tokens, of which 10,000 are free, at 0.00123; and a call at 0.005.
        assert {line["price_id"]: line["marginal_amount"] for line in first["lines"]} == {
            "calls": "0.005",
            "tokens": "0.615",
        }
        assert (first["marginal_amount"], "adds 0.62 USD, before rounding" in text) == ("0.62", True)
        assert eventually(lambda: "an estimate; contains what was acknowledged before" in tenant.table(*estimate))

        (tenant.folder / "sent.jsonl").write_text(json.dumps({**event, "event_id": "1"}))
        tenant.table("events", "send", "sent.jsonl")

        def used() -> Any:
            [period] = tenant.json(*estimate)["periods"]
            amounts = {line["price_id"]: line["amount_before"] for line in period["lines"]}
            return period if amounts == {"calls": "0.005", "tokens": "0.615"} else None

        # Now all of it is above what is free: 10,500 at 0.00123, and a call.
        assert eventually(used)["marginal_amount"] == "12.92"

        (tenant.folder / "event.json").write_text(json.dumps({**event, "properties": {"input": "x", "output": 1}}))
        wrong = tenant.run(*estimate)
        assert (wrong.code, "event.properties.input" in wrong.err) == (4, True), wrong
        (tenant.folder / "event.json").write_text("[]")
        assert tenant.run(*estimate).code == 2


class TestLiveCharges:
    def test_are_watched_by_the_command_line_and_the_sdk(self, shell: CommandLine) -> None:
        key = shell.json("tenants", "create", "live", "--test-clock", "2026-01-20")["secret"]
        live = shell.having(STEELYARD_API_KEY=key)
        live.table("meters", "create", "calls", "--event-type", "call")
        card = {**CARD, "prices": CARD["prices"][:2]}
        (live.folder / "live.json").write_text(json.dumps(card))
        live.table("ratecards", "create", "live.json")
        for customer in ("seen", "unseen"):
            live.table("customers", "create", customer)
            subscription = ("--start", "2026-01-01", "--id", f"sub-{customer}")
            live.table("subscriptions", "create", customer, "standard", *subscription)
        watch = ("charges", "watch", "--ending-after", "2026-01-20")
        # Of January, and of February, which billing knows already.
        eventually(lambda: live.table(*watch, "seen", "--once").count("\n") == 4)
        endpoints = Endpoints.from_env(shell.json("env"))

        with (
            live.start(*watch, "seen", "--every", "0", "--output", "json") as watching,
            SyncClient(api_key=key, endpoints=endpoints, source="gateway") as client,
        ):
            assert watching.stdout is not None
            present = [json.loads(watching.stdout.readline()) for _ in range(4)]
            assert sorted(charge["amount"] for charge in present) == ["0", "0", "19.99", "19.99"]
            after = datetime(2026, 1, 20, tzinfo=UTC)
            updates = client.watch_charges(subscription_ids=["sub-unseen"], ending_after=after)
            while not next(updates).is_current:
                pass
            at = datetime(2026, 1, 15, tzinfo=UTC)
            customers = ["seen"] * 7 + ["unseen"] * 5
            client.send([UsageEvent("call", customer, event_time=at) for customer in customers], ack=Ack.RECORDED)
            calls = {charge.quantity: charge.amount for charge in _until(updates, "5")}
            assert calls["5"] == "0.025"
            printed: list[dict[str, str]] = []
            while not printed or printed[-1]["quantity"] != "7":
                printed.append(json.loads(watching.stdout.readline()))
            assert (printed[-1]["subscription_id"], printed[-1]["amount"]) == ("sub-seen", "0.035")
            versions = [int(charge["version"]) for charge in printed]
            assert versions == sorted(set(versions))
            out, err = _interrupted(watching)
        assert (watching.returncode, out, err) == (130, "", "")
        text = live.table(*watch, "--subscription", "sub-unseen", "--once")
        january = "2026-01-01T00:00:00Z to 2026-02-01T00:00:00Z"
        assert f"unseen sub-unseen {january} calls: 5 = 0.025 USD\n" in text


def _until(updates: Iterator[ChargeUpdate], quantity: str) -> Iterator[charge_pb2.Charge]:
    """Charges as they come, to the first one with that quantity."""
    for update in updates:
        for charge in update.charges:
            yield charge
            if charge.quantity == quantity:
                return


def _issued(shell: CommandLine, count: int) -> Any:
    invoices = shell.json("invoices", "list", "--state", "issued")
    return invoices if len(invoices) == count else None


def _share(part: int, whole: int) -> int:
    """Of 99.99, in cents."""
    return int((Decimal(9999 * part) / whole).quantize(Decimal(1), ROUND_HALF_EVEN))


IN_EUROS = """
further_currencies:
- currency: EUR
  prices:
  - {price_id: fee, flat: {amount: 18}}
  - {price_id: calls, meter_id: calls, per_unit: {unit_amount: 0.04}}
"""
IN_DOLLARS = """
rate_card_id: worldwide
currency: USD
prices:
- {price_id: fee, flat: {amount: 20}}
- {price_id: calls, meter_id: calls, per_unit: {unit_amount: 0.05}}
"""


class TestCurrencies:
    def test_two_subscriptions_to_one_card_are_invoiced_in_their_currencies(self, shell: CommandLine) -> None:
        key = shell.json("tenants", "create", "currencies", "--test-clock", "2026-01-20")["secret"]
        tenant = shell.having(STEELYARD_API_KEY=key)
        tenant.table("meters", "create", "calls", "--event-type", "call")
        (tenant.folder / "worldwide.yaml").write_text(IN_DOLLARS + IN_EUROS)
        (tenant.folder / "dollars.yaml").write_text(IN_DOLLARS.replace("worldwide", "dollars"))
        (tenant.folder / "differs.yaml").write_text((IN_DOLLARS + IN_EUROS).replace("{amount: 18}", "{amount: -1}"))
        wrong = tenant.run("ratecards", "apply", "-f", "differs.yaml")
        assert (wrong.code, "line 11: further_currencies[0].prices[0].flat.amount" in wrong.err) == (4, True), wrong
        assert "USD, EUR" in tenant.table("ratecards", "apply", "-f", "worldwide.yaml")
        assert tenant.json("ratecards", "apply", "-f", "worldwide.yaml")[0]["plan"] == "unchanged"
        tenant.table("ratecards", "apply", "-f", "dollars.yaml")
        tenant.table("customers", "create", "cust-1")
        tenant.table("payments", "set-method", "cust-1", "tok_ok")
        create = ("subscriptions", "create", "cust-1", "worldwide", "--start", "2026-01-01", "--id")
        assert tenant.json(*create, "sub-usd")[0]["currency"] == "USD"
        assert tenant.json(*create, "sub-eur", "--currency", "EUR")[0]["currency"] == "EUR"
        refused = tenant.run(*create, "sub-gbp", "--currency", "GBP")
        assert (refused.code, "worldwide has prices in USD, EUR" in refused.err) == (4, True), refused
        assert tenant.run("subscriptions", "change-card", "sub-eur", "dollars").code == 4
        call = {
            "customer_id": "cust-1",
            "event_type": "call",
            "event_time": "2026-01-15T12:00:00Z",
            "source": "gateway",
        }
        (tenant.folder / "calls.jsonl").write_text(
            "\n".join(json.dumps({**call, "event_id": str(n)}) for n in range(10))
        )
        tenant.table("events", "send", "calls.jsonl")

        tenant.table("tenants", "advance-clock", "currencies", "2026-02-02")
        invoices = eventually(partial(paid_invoices, tenant, 2))

        assert {
            invoice["subscription_id"]: (invoice["total"]["minor_units"], invoice["total"]["currency"])
            for invoice in invoices
        } == {"sub-usd": ("2050", "USD"), "sub-eur": ("1840", "EUR")}
        simulated = tenant.json(
            "ratecards", "simulate", "--card", "worldwide", "--start", "2026-01-01", "--end", "2026-02-01"
        )
        assert (simulated["currency"], simulated["current_minor"]) == ("USD", "2050")
        (euros,) = simulated["further_currencies"]
        assert (euros["currency"], euros["current_minor"], euros["simulated_minor"]) == ("EUR", "1840", "1840")
        assert all(check["ok"] for items in tenant.json("reconcile").values() for check in items)
