"""`steelyard events send` as a process of its own: interrupted, killed, gone on with."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from libs.embedded.machine import free_port
from steelyard.ingest.v1 import ingest_service_pb2 as pb
from tests.component.libs.sdk.fake_ingest import Context, FakeIngest, serve

PROJECT = Path(__file__).resolve().parents[4]
ROWS = 20_000
# The tests may run where Ctrl-C is ignored, which children inherit.
PROGRAM = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from libs.cli.main import app
app()
"""


class GatedIngest(FakeIngest):
    """Answers `open_for` calls, and keeps the others waiting."""

    open_for = 1_000

    async def IngestEvents(self, request: pb.IngestEventsRequest, context: Context) -> pb.IngestEventsResponse:
        while len(self.batch_sizes) >= self.open_for:  # noqa: ASYNC110 - the test sets it
            await asyncio.sleep(0.01)
        return await super().IngestEvents(request, context)


def csv_of(customers: list[str]) -> str:
    lines = [f"e{number},{customer},2026-01-31T23:59:59Z,{number}" for number, customer in enumerate(customers)]
    return "\n".join(["event_id,customer_id,event_time,input", *lines])


@pytest.fixture
def usage(tmp_path: Path) -> Path:
    file = tmp_path / "usage.csv"
    file.write_text(csv_of(["c"] * ROWS))
    return file


@pytest.fixture
def usage_with_a_bad_row(usage: Path) -> Path:
    usage.write_text(csv_of(["c"] * 5 + ["bad-c"] + ["c"] * (ROWS - 6)))
    return usage


@asynccontextmanager
async def command(target: str, *arguments: str, home: Path, key: str = "sy_1_x") -> AsyncIterator[Process]:
    environment = {**os.environ, "STEELYARD_API_KEY": key, "STEELYARD_HOME": str(home / "no-home")}
    environment |= {f"STEELYARD_{name}_TARGET": target for name in ("INGEST", "QUERY", "RATING", "BILLING", "PAYMENTS")}
    environment["PYTHONPATH"] = f"{PROJECT}:{PROJECT / 'libs/sdk'}"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM, "events", "send", "--type", "t", *arguments),
        cwd=home,
        env=environment,
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def outcome(process: Process, content: bytes | None = None) -> tuple[int | None, str, str]:
    async with asyncio.timeout(60):
        out, err = await process.communicate(content)
    return process.returncode, out.decode(), err.decode()


async def run(target: str, *arguments: str, home: Path, key: str = "sy_1_x") -> tuple[int | None, str, str]:
    async with command(target, *arguments, home=home, key=key) as process:
        return await outcome(process)


async def state_reaches(file: Path, events: int) -> None:
    """Wait until the state says that so many events are answered."""
    state = file.with_name(f"{file.name}.sending")

    def reached() -> bool:
        return state.exists() and json.loads(state.read_text())["counts"].get("QUEUED", 0) >= events

    async with asyncio.timeout(60):
        while not reached():  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.02)


class TestGoingOn:
    @pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=["int", "term", "kill"])
    async def test_after_an_interruption_sends_only_what_is_left(self, usage: Path, end: signal.Signals) -> None:
        ingest = GatedIngest()
        ingest.open_for = 5
        async with serve(ingest) as target:
            async with command(target, usage.name, home=usage.parent) as process:
                await state_reaches(usage, 1_000)
                process.send_signal(end)
                code, out, err = await outcome(process)
            assert (code, out) == (130 if end is signal.SIGINT else -end, "")
            if end is signal.SIGINT:
                assert "; the same command goes on behind them" in err
            answered, ingest.open_for = sum(ingest.batch_sizes), 1_000
            known = json.loads(usage.with_name("usage.csv.sending").read_text())["counts"]["QUEUED"]
            assert 1_000 <= known <= answered < ROWS
            code, out, err = await run(target, usage.name, home=usage.parent)
        assert (code, out) == (0, f"{ROWS} queued\n")
        assert f"behind {known:,} events that were answered before" in err
        assert set(ingest.deliveries) == {f"e{number}" for number in range(ROWS)}
        assert not usage.with_name("usage.csv.sending").exists()
        again = ingest.deliveries[answered:]
        assert "e0" not in again

    async def test_starts_over_if_it_is_told_or_something_is_different(self, usage: Path) -> None:
        ingest = GatedIngest()
        ingest.open_for = 3
        async with serve(ingest) as target:
            async with command(target, usage.name, home=usage.parent) as process:
                await state_reaches(usage, 1_000)
                process.kill()
                await outcome(process)
            saved = usage.with_name("usage.csv.sending").read_text()
            ingest.open_for = 1_000
            for arguments, key, said in [
                ((), "sy_1_other", "another API key"),
                (("--derive-ids",), "sy_1_x", "other options"),
                (("--restart",), "sy_1_x", ""),
            ]:
                usage.with_name("usage.csv.sending").write_text(saved)
                ingest.deliveries.clear()
                code, out, err = await run(target, usage.name, *arguments, home=usage.parent, key=key)
                assert (code, out, said in err) == (0, f"{ROWS} queued\n", True), err
                assert len(ingest.deliveries) == ROWS
            code, out, err = await run(target, usage.name, "--resume", home=usage.parent)
            assert (code, out, err) == (2, "", "error: no earlier sending of it was interrupted\n")

    async def test_rejections_of_the_first_part_are_not_forgotten(self, usage_with_a_bad_row: Path) -> None:
        usage = usage_with_a_bad_row
        ingest = GatedIngest()
        ingest.open_for = 3
        async with serve(ingest) as target:
            async with command(target, usage.name, home=usage.parent) as process:
                await state_reaches(usage, 999)
                process.kill()
                await outcome(process)
            ingest.open_for = 1_000
            code, out, _ = await run(target, usage.name, home=usage.parent, key="sy_1_x")
        assert code == 1
        assert sorted(out.splitlines()[0].split(", ")) == ["1 rejected", f"{ROWS - 1} queued"]
        assert out.endswith("and 1 more: `steelyard events exceptions`\n")


class TestStandardInput:
    async def test_is_sent_as_it_comes(self, tmp_path: Path) -> None:
        line = b'{"event_id": "%d", "customer_id": "c", "event_time": "2026-01-31T23:59:59Z"}\n'
        ingest = FakeIngest()
        async with serve(ingest) as target, command(target, "-", home=tmp_path) as process:
            content = b"".join(line % number for number in range(2_500))
            code, out, _ = await outcome(process, content)
        assert (code, out) == (0, "2500 queued\n")
        assert os.listdir(tmp_path) == []

    async def test_that_says_nothing_can_be_left(self, tmp_path: Path) -> None:
        async with serve(FakeIngest()) as target, command(target, "-", home=tmp_path) as process:
            await asyncio.sleep(2)
            process.send_signal(signal.SIGINT)
            async with asyncio.timeout(20):
                assert await process.wait() == 130


class TestNobodyAnswers:
    @pytest.mark.parametrize("after_s", [1.5, 1.8, 2.1, 2.4])
    async def test_one_ctrl_c_is_enough(self, usage: Path, after_s: float) -> None:
        async with command(f"127.0.0.1:{free_port()}", usage.name, home=usage.parent) as process:
            await asyncio.sleep(after_s)
            process.send_signal(signal.SIGINT)
            code, out, err = await outcome(process)
        assert (code, out, "Traceback" in err) == (130, "", False), err
