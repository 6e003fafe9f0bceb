"""What people type: instants, dates, zones, key=value pairs."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
import typer

from libs.cli.parsing import pairs, parse_instant, timestamp, zone_named


class TestInstants:
    @pytest.mark.parametrize(
        ("text", "at"),
        [
            ("2026-01-31T23:59:59Z", datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC)),
            ("2026-01-31t23:59:59.5z", datetime(2026, 1, 31, 23, 59, 59, 500_000, tzinfo=UTC)),
            ("2026-01-31 23:59+01:00", datetime(2026, 1, 31, 22, 59, tzinfo=UTC)),
            ("2026-01-31T23:59:59.123456789-05:30", datetime(2026, 2, 1, 5, 29, 59, 123_456, tzinfo=UTC)),
        ],
    )
    def test_rfc_3339(self, text: str, at: datetime) -> None:
        assert parse_instant(text) == at
        assert parse_instant(text).tzinfo is UTC

    @pytest.mark.parametrize(
        "text", ["", "now", "2026-01-31", "2026-01-31T23:59:59", "20260131T235959Z", "2026-W05-6T00:00:00Z"]
    )
    def test_nothing_else(self, text: str) -> None:
        with pytest.raises(ValueError, match="is not an instant with its zone"):
            parse_instant(text)

    @pytest.mark.parametrize("text", ["2026-13-01T00:00:00Z", "9999-12-31T23:59:59-01:00", "0001-01-01T00:00:00+14:00"])
    def test_an_instant_that_does_not_exist_is_named(self, text: str) -> None:
        with pytest.raises(ValueError, match=text.replace("+", r"\+")):
            parse_instant(text)


class TestOptionsOfTime:
    def test_a_date_is_midnight_in_utc(self) -> None:
        stamp = timestamp("2026-01-31", "--start")
        assert stamp is not None
        assert stamp.ToJsonString() == "2026-01-31T00:00:00Z"

    @pytest.mark.parametrize(
        ("day", "zone", "at"),
        [
            ("2026-01-31", "Europe/Berlin", "2026-01-30T23:00:00Z"),
            ("2026-07-01", "Europe/Berlin", "2026-06-30T22:00:00Z"),
            ("2018-11-04", "America/Sao_Paulo", "2018-11-04T03:00:00Z"),  # Clocks went from 23:59:59 to 01:00.
        ],
    )
    def test_a_date_is_the_first_instant_of_the_day_in_a_zone(self, day: str, zone: str, at: str) -> None:
        stamp = timestamp(day, "--start", ZoneInfo(zone))
        assert stamp is not None
        assert stamp.ToJsonString() == at

    def test_an_instant_is_what_it_is_in_any_zone(self) -> None:
        stamp = timestamp("2026-01-31T00:00:00Z", "--start", ZoneInfo("Asia/Tokyo"))
        assert stamp is not None
        assert stamp.ToJsonString() == "2026-01-31T00:00:00Z"

    def test_none_stays_none(self) -> None:
        assert timestamp(None, "--at") is None

    @pytest.mark.parametrize("text", ["yesterday", "", "2026-02-30", "2026-01-31T10:00:00", "2026-1-1"])
    def test_the_option_is_named(self, text: str) -> None:
        with pytest.raises(typer.BadParameter, match="--until: ") as caught:
            timestamp(text, "--until")
        assert repr(text) in str(caught.value)

    def test_a_day_before_time_began_is_refused(self) -> None:
        with pytest.raises(typer.BadParameter, match="--start: '0001-01-01'"):
            timestamp("0001-01-01", "--start", ZoneInfo("Asia/Tokyo"))

    def test_no_zone_is_utc(self) -> None:
        assert zone_named("", "--zone") == ZoneInfo("UTC")

    @pytest.mark.parametrize("name", ["Mars/Olympus", "../../etc/passwd", "europe/berlin", "Europe"])
    def test_an_unknown_zone_is_named(self, name: str) -> None:
        with pytest.raises(typer.BadParameter, match=r"--zone: .* is not an IANA time zone"):
            zone_named(name, "--zone")


class TestPairs:
    def test_the_first_equals_sign_separates(self) -> None:
        assert pairs(["a=1", "b=", "c=x=y"], "--filter") == {"a": "1", "b": "", "c": "x=y"}

    @pytest.mark.parametrize(
        ("items", "reason"),
        [
            (["a"], "--filter: 'a' is not key=value"),
            (["=1"], "--filter: '=1' is not key=value"),
            (["a=1", "a=2"], "--filter: 'a' is given twice"),
        ],
    )
    def test_what_is_wrong_is_named(self, items: list[str], reason: str) -> None:
        with pytest.raises(typer.BadParameter) as caught:
            pairs(items, "--filter")
        assert str(caught.value) == reason
