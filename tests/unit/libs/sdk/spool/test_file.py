"""The file: it is made once, private and durable; what is none of ours or damaged is refused and left alone."""

from __future__ import annotations

import os
import sqlite3
import threading
from pathlib import Path

import pytest

from steelyard.spool import SpoolCorrupt, SpoolError, SpoolFormatNewer, SpoolOfOther, SpoolUnavailable
from steelyard.spool.file import SpoolFile
from steelyard.spool.incoming import NewBatch, append
from steelyard.spool.schema import APPLICATION_ID, FORMAT
from steelyard.spool.stats import read_stats


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "usage.spool"


def add(file: SpoolFile, count: int = 1) -> None:
    append(file, [NewBatch(b"x" * 2_000, 1, "")] * count, 0, None)


def events(file: SpoolFile) -> int:
    return read_stats(file, 0).events


def read_everything(file: SpoolFile) -> None:
    with file.transaction() as connection:
        for table in ("batches", "payloads", "totals", "counters", "meta"):
            connection.execute(f"SELECT * FROM {table}").fetchall()
        connection.execute("DELETE FROM batches")


class TestAFile:
    def test_is_fsynced_at_every_commit_and_private(self, path: Path) -> None:
        file = SpoolFile(path)
        with file.reading() as connection:
            found = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
            version = connection.execute("PRAGMA user_version").fetchone()[0]
        assert (found, version) == (["wal", 2], FORMAT)
        assert path.stat().st_mode & 0o777 == 0o600
        file.close()

    def test_keeps_its_rows_when_it_is_opened_again(self, path: Path) -> None:
        first = SpoolFile(path)
        add(first, 3)
        first.close()
        assert events(SpoolFile(path)) == 3

    def test_is_made_once_by_many_at_the_same_time(self, path: Path) -> None:
        files, failed = [SpoolFile(path) for _ in range(8)], list[BaseException]()
        together = threading.Barrier(len(files))

        def use(file: SpoolFile) -> None:
            together.wait()
            try:
                add(file)
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=use, args=(file,)) for file in files]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed
        assert events(files[0]) == 8

    def test_a_transaction_that_fails_changes_nothing(self, path: Path) -> None:
        file = SpoolFile(path)
        add(file)

        def fail() -> None:
            with file.transaction() as connection:
                connection.execute("DELETE FROM batches")
                raise LookupError

        with pytest.raises(LookupError):
            fail()
        assert events(file) == 1

    def test_a_full_disk_is_named_and_what_is_in_it_stays(self, path: Path) -> None:
        file = SpoolFile(path)
        add(file)
        with file.reading() as connection:
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count = {pages + 2}")
        with pytest.raises(SpoolUnavailable) as caught:
            add(file, 50)
        assert caught.value.reason == "DISK_FULL"
        add(file)  # The limit was the connection's, and a failure ends that.
        assert events(file) == 2

    def test_shrinks_again_when_it_is_empty(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("steelyard.spool.file._SPARE_PAGES", 10)
        file = SpoolFile(path)
        add(file, 5_000)
        assert not file.shrink()
        with file.transaction() as connection:
            connection.execute("DELETE FROM batches")
        shrunk = 0
        while file.shrink():
            shrunk += 1
        assert shrunk > 1  # Not all at once: nobody else can write meanwhile.
        add(file)
        file.close()
        assert path.stat().st_size < 300_000

    def test_a_lock_that_is_held_too_long_is_named(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("steelyard.spool.schema.BUSY_S", 0.05)
        file, other = SpoolFile(path), SpoolFile(path)
        add(file)
        with other.transaction(), pytest.raises(SpoolUnavailable) as caught:
            add(file)
        assert caught.value.reason == "LOCKED"
        add(file)

    def test_deleted_under_our_hands_is_said_and_a_new_one_is_made(self, path: Path) -> None:
        file = SpoolFile(path)
        add(file, 2)
        for name in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
            name.unlink()
        with pytest.raises(SpoolUnavailable) as caught:
            add(file)
        assert caught.value.reason == "REPLACED"
        add(file)
        assert events(file) == 1

    def test_a_directory_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(SpoolUnavailable) as caught:
            add(SpoolFile(tmp_path / "absent" / "usage.spool"))
        assert caught.value.reason == "NOT_WRITABLE"


class TestWhatIsNone:
    def test_other_bytes(self, path: Path) -> None:
        path.write_bytes(b"not a database at all" * 500)
        with pytest.raises(SpoolCorrupt):
            add(SpoolFile(path))
        assert path.read_bytes().startswith(b"not a database")

    def test_another_programs_database(self, path: Path) -> None:
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE notes (text TEXT)")
        with pytest.raises(SpoolCorrupt) as caught:
            add(SpoolFile(path))
        assert caught.value.reason == "NOT_A_SPOOL"

    def test_a_newer_format(self, path: Path) -> None:
        file = SpoolFile(path)
        add(file)
        file.close()
        with sqlite3.connect(path) as connection:
            connection.execute(f"PRAGMA user_version = {FORMAT + 1}")
        with pytest.raises(SpoolFormatNewer):
            add(SpoolFile(path))

    def test_another_tenants_spool(self, path: Path) -> None:
        add(SpoolFile(path, "acme"))
        with pytest.raises(SpoolOfOther, match="acme"):
            add(SpoolFile(path, "beta"))

    @pytest.mark.parametrize("page", [0, 3, 5])
    def test_damaged_pages(self, path: Path, page: int) -> None:
        file = SpoolFile(path)
        add(file, 100)
        file.close()
        with path.open("r+b") as raw:
            raw.seek(page * 4096)
            raw.write(b"\xa5" * 4096)
        with pytest.raises(SpoolCorrupt):
            read_everything(SpoolFile(path))

    def test_an_empty_file_becomes_one(self, path: Path) -> None:
        path.touch()
        add(SpoolFile(path))
        with sqlite3.connect(path) as connection:
            assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)


class TestForks:
    def test_without_pythons_hooks_are_refused(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file = SpoolFile(path)
        add(file)
        with monkeypatch.context() as child:
            child.setattr(os, "getpid", lambda: -1)
            with pytest.raises(SpoolError, match="forked"):
                add(file)
        add(file)

    def test_find_no_connection(self, path: Path) -> None:
        file = SpoolFile(path)
        add(file)
        file.before_fork()
        assert not Path(f"{path}-wal").exists()  # The last connection to a file takes it away.
        file.after_fork_in_parent()
        add(file)
        assert events(file) == 2
