from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys

import pytest

from libs.process import PartEndedError, stop_on_signals, supervise


async def _until(stopping: asyncio.Event) -> None:
    await stopping.wait()


async def _fail() -> None:
    raise OSError("disk gone")


async def _return() -> None:
    await asyncio.sleep(0)


class TestSupervise:
    async def test_ends_when_all_parts_have_stopped(self) -> None:
        stopping, ended = asyncio.Event(), []

        async def part(name: str) -> None:
            await stopping.wait()
            ended.append(name)

        run = asyncio.create_task(supervise({"one": part("one"), "two": part("two")}, stopping))
        await asyncio.sleep(0.01)
        assert ended == []
        stopping.set()
        await run

        assert ended == ["one", "two"]

    async def test_an_error_stops_the_others_and_is_logged_and_raised(self, caplog: pytest.LogCaptureFixture) -> None:
        stopping = asyncio.Event()

        with caplog.at_level(logging.CRITICAL), pytest.raises(ExceptionGroup) as raised:
            await supervise({"relay": _fail(), "server": _until_cancelled()}, stopping)

        assert [str(error) for error in raised.value.exceptions] == ["disk gone"]
        assert stopping.is_set()
        assert "relay failed" in caplog.text

    async def test_an_early_return_counts_as_an_error(self) -> None:
        stopping = asyncio.Event()

        with pytest.raises(ExceptionGroup) as raised:
            await supervise({"server": _until(stopping), "relay": _return()}, stopping)

        assert [type(error) for error in raised.value.exceptions] == [PartEndedError]

    async def test_exits_hard_when_a_part_refuses_to_stop(self) -> None:
        program = (
            "import asyncio\n"
            "from libs.process import supervise\n"
            "async def stubborn():\n"
            "    while True:\n"
            "        try:\n"
            "            await asyncio.sleep(60)\n"
            "        except asyncio.CancelledError:\n"
            "            pass\n"
            "async def fail():\n"
            "    await asyncio.sleep(0.01)\n"
            "    raise OSError\n"
            "async def main():\n"
            "    await supervise({'a': stubborn(), 'b': fail()}, asyncio.Event(), grace_s=0.05)\n"
            "asyncio.run(main())\n"
        )
        done = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", program], capture_output=True, timeout=20)

        assert done.returncode == 70


class TestStopOnSignals:
    @pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
    async def test_sets_the_event(self, signum: signal.Signals) -> None:
        stopping = stop_on_signals()
        try:
            os.kill(os.getpid(), signum)
            await asyncio.wait_for(stopping.wait(), 1)
        finally:
            for each in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().remove_signal_handler(each)


async def _until_cancelled() -> None:
    await asyncio.Event().wait()
