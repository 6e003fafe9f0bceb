"""The same usage and prices give the same bytes as ever, or the engine has another version."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.unit.rating.golden.golden_charges import CHARGES, golden

KEPT = json.loads(CHARGES.read_text(encoding="utf-8"))


def test_charges_are_byte_for_byte_what_they_were() -> None:
    assert golden() == KEPT


def test_every_model_and_term_is_among_them() -> None:
    kinds = {part["kind"] for charge in KEPT["charges"].values() for part in charge.get("parts", ())}
    assert kinds >= {
        *("flat", "per_unit", "package", "tier", "step", "percentage", "events", "dynamic", "row", "band"),
        *("windows", "converted", "included", "minimum", "maximum", "overage", "true_up", "discount"),
        *("term_used", "term_left", "price_unit"),
    }


def test_another_process_with_other_hashes_comes_to_the_same() -> None:
    program = "import json; from tests.unit.rating.golden.golden_charges import golden; print(json.dumps(golden()))"
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True, text=True
        )
        assert json.loads(done.stdout) == KEPT
