"""What is remembered of an interrupted sending, and when it is of no use."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from libs.cli.event_resume import Answered, NothingToResume, ResumeFile
from libs.cli.event_rows import Mark
from steelyard import Verdict

OPTIONS = {"format": "csv", "type": ""}
HALF = Answered(Mark(500, 11), Counter({Verdict.RECORDED: 9, Verdict.REJECTED: 1}))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "usage.csv"
    path.write_bytes(bytes(range(256)) * 1_000)
    return path


def refusal_of(state: ResumeFile) -> str:
    with pytest.raises(NothingToResume) as refused:
        state.load()
    return str(refused.value)


class TestState:
    def test_is_what_was_saved_last(self, file: Path) -> None:
        state = ResumeFile(file, "key", OPTIONS)
        assert state.save(Answered(Mark(100, 2), Counter()), is_last=True)
        assert state.save(HALF, is_last=True)
        assert ResumeFile(file, "key", OPTIONS).load() == HALF
        assert [path.name for path in file.parent.iterdir() if path != file] == ["usage.csv.sending"]

    def test_is_written_now_and_then(self, file: Path) -> None:
        state = ResumeFile(file, "key", OPTIONS)
        state.save(HALF)
        state.save(Answered(Mark(600, 12), HALF.counts))
        assert state.load() == HALF

    def test_holds_no_key(self, file: Path) -> None:
        state = ResumeFile(file, "sy_secret", OPTIONS)
        state.save(HALF)
        assert "secret" not in state.path.read_text()

    def test_is_gone_when_everything_is_answered(self, file: Path) -> None:
        state = ResumeFile(file, "key", OPTIONS)
        state.save(HALF)
        state.remove()
        state.remove()
        assert refusal_of(state) == "no earlier sending of it was interrupted"

    def test_that_cannot_be_kept_is_said_once(self, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
        state = ResumeFile(file, "key", OPTIONS)
        state.path.with_name(f"{state.path.name}.{os.getpid()}").mkdir()
        assert not state.save(HALF, is_last=True)
        assert not state.save(HALF, is_last=True)
        state.remove()
        assert capsys.readouterr().err.count("a second try starts over") == 1


class TestOfAnotherSending:
    @pytest.fixture
    def saved(self, file: Path) -> Path:
        ResumeFile(file, "key", OPTIONS).save(HALF)
        return file

    @pytest.mark.parametrize("place", [0, 1_000, -1], ids=["start", "near-start", "end"])
    def test_other_content_of_the_same_size_and_time(self, saved: Path, place: int) -> None:
        status, content = saved.stat(), bytearray(saved.read_bytes())
        content[place] ^= 1
        saved.write_bytes(content)
        os.utime(saved, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert refusal_of(ResumeFile(saved, "key", OPTIONS)).endswith("the file has changed")

    def test_a_file_that_was_appended_or_touched(self, saved: Path) -> None:
        os.utime(saved, ns=(0, 0))
        assert refusal_of(ResumeFile(saved, "key", OPTIONS)).endswith("the file has changed")
        with saved.open("ab") as file:
            file.write(b"more")
        assert refusal_of(ResumeFile(saved, "key", OPTIONS)).endswith("the file has changed")

    def test_another_key_or_other_options(self, saved: Path) -> None:
        assert refusal_of(ResumeFile(saved, "other", OPTIONS)).endswith("another API key")
        assert refusal_of(ResumeFile(saved, "key", {**OPTIONS, "type": "t"})).endswith("other options")

    @pytest.mark.parametrize(
        "changes",
        [{"offset": -1}, {"offset": "5"}, {"offset": True}, {"line": None}, {"counts": {"NO": 1}}, {"counts": [1]}],
        ids=range(6),
    )
    def test_a_state_that_makes_no_sense(self, saved: Path, changes: dict[str, object]) -> None:
        state = ResumeFile(saved, "key", OPTIONS)
        state.path.write_text(json.dumps(json.loads(state.path.read_text()) | changes))
        assert refusal_of(state).endswith("cannot be read")

    @pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"5", b"\xff", b'{"sent": 1}', b"[" * 9_000], ids=range(7))
    def test_a_state_that_is_none(self, saved: Path, content: bytes) -> None:
        state = ResumeFile(saved, "key", OPTIONS)
        state.path.write_bytes(content)
        assert refusal_of(state).endswith("cannot be read")
