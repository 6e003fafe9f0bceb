"""What a process is to do wrong, told by its environment at the start and by a file while it runs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Setting:
    """`crash_at`: a crash point; `chaos`: shares of deliveries by what is done to them; `bug`: a planted bug."""

    crash_at: str = ""
    chaos: Mapping[str, float] = field(default_factory=dict)
    bug: str = ""

    def to_json(self) -> str:
        """Return what a control file holds."""
        return json.dumps({"crash_at": self.crash_at, "chaos": dict(self.chaos), "bug": self.bug})


class Switches:
    """The setting of this process at this moment. The control file, once it is there, replaces the environment."""

    def __init__(self, initial: Setting, file: Path | None) -> None:
        self._initial = initial
        self._file = file
        self._setting = initial
        self._read_ns = -1

    @classmethod
    def from_env(cls, values: Mapping[str, str]) -> Switches:
        """Read CRASH_AT, CHAOS (a JSON object), PLANT_BUG, and FAULT_CONTROL, the path of the control file."""
        chaos = json.loads(values.get("CHAOS") or "{}")
        initial = Setting(values.get("CRASH_AT", ""), chaos, values.get("PLANT_BUG", ""))
        file = values.get("FAULT_CONTROL")
        return cls(initial, Path(file) if file else None)

    @property
    def notes_file(self) -> Path | None:
        """Where the process notes what happens to it; beside the control file."""
        return self._file.with_suffix(".notes") if self._file else None

    def current(self) -> Setting:
        """Return the setting; the same object until it changes."""
        if self._file is None:
            return self._setting
        try:
            changed_ns = self._file.stat().st_mtime_ns
            if changed_ns != self._read_ns:
                self._setting = Setting(**json.loads(self._file.read_text()))
                self._read_ns = changed_ns
        except FileNotFoundError:
            if self._read_ns != -1:
                self._setting, self._read_ns = self._initial, -1
        return self._setting

    def crashed_at(self, point: str) -> None:
        """Leave evidence beside the control file, and take the point out of it: the next life goes on with the rest."""
        if self._file is not None:
            self._file.with_suffix(".fired").write_text(f"{point} of process {os.getpid()}\n")
            partial = self._file.with_suffix(".crashed")
            partial.write_text(replace(self._setting, crash_at="").to_json())
            partial.replace(self._file)
