"""What this system does not do as others do, and why: the only reasons for which a vector is not computed."""

from __future__ import annotations

from typing import NoReturn

CONTRADICTIONS = {
    "last_write_wins": "among different events under one id the first recorded one wins: what was counted, and perhaps "
    "billed, does not change because something is sent again; corrections are explicit",
    "bad_numbers_ignored": "a value that is no number is refused with a reason: it is never passed over in silence",
    "rounding_mode": "quantities are rounded half away from zero, up or down; money half to even or towards zero, too",
    "bounded_last_tier": "the last tier of a price is open: usage beyond all tiers is never free, and never an "
    "error at the end of a period",
    "no_runner": "nothing computes this kind yet",
    "no_such_option": "there is no such aggregation or option",
}


class Unsupported(Exception):
    """A vector asks for what contradicts this system; `name` is in the table."""

    def __init__(self, name: str, detail: str = "") -> None:
        super().__init__(f"{name}: {CONTRADICTIONS[name]}" + (f" ({detail})" if detail else ""))
        self.name = name


def unsupported(name: str, detail: str = "") -> NoReturn:
    raise Unsupported(name, detail)
