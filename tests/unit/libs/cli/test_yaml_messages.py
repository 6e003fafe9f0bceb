from __future__ import annotations

import pytest

from libs.cli.yaml_messages import YamlError, read_documents, to_yaml
from steelyard.rating.v1 import charge_service_pb2
from steelyard.rating.v1 import rate_card_pb2 as pb

CARD = """# a card
rate_card_id: standard
effective_time: 2026-04-01T02:00:00+02:00
prices:
- price_id: a
  meter_id: 007
  rounding_mode: half_up
  per_unit:
    unit_amount: 0.10
- price_id: b
  meter_id: yes
  commitment: {quantity: 1e3, no_true_up: true}
  unit_conversion: {divide_by: 1000, digits: -2, rounding: floor}
  package:
    package_size: 10
---
rate_card_id: other
"""


def read(text: str) -> list[pb.RateCard]:
    return [document.message for document in read_documents(text, pb.RateCard)]


def problems(text: str) -> list[str]:
    with pytest.raises(YamlError) as caught:
        read(text)
    return caught.value.problems


def test_values_are_taken_as_they_stand_there() -> None:
    first, second = read(CARD)
    a, b = first.prices
    assert (a.meter_id, a.per_unit.unit_amount, a.rounding_mode) == ("007", "0.10", pb.ROUNDING_MODE_HALF_UP)
    assert (b.meter_id, b.commitment.quantity, b.commitment.no_true_up) == ("yes", "1e3", True)
    assert (b.unit_conversion.digits, b.unit_conversion.rounding) == (-2, pb.QUANTITY_ROUNDING_FLOOR)
    assert first.effective_time.ToJsonString() == "2026-04-01T00:00:00Z"
    assert second.rate_card_id == "other"


def test_what_is_written_is_read_again() -> None:
    first, second = read(CARD)
    assert read(to_yaml(first) + "---\n" + to_yaml(second)) == [first, second]


def test_lines_of_fields_are_known_also_of_those_that_are_missing() -> None:
    first, second = read_documents(CARD, pb.RateCard)
    lines = {
        path: first.line_of(path) for path in ("", "prices", "prices[0].meter_id", "prices[1].package.package_size")
    }
    assert list(lines.values()) == [2, 4, 6, 15]
    assert first.line_of("prices[1].package.package_amount") == 14
    assert first.line_of("currency") == 2
    assert second.line_of("currency") == 17


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1", "line 1: a: is no field; known are rate_card_id, version"),
        ("- a", "line 1: must be a mapping of fields"),
        ("rate_card_id: [a]", "line 1: rate_card_id: must be one value"),
        ("prices: {}", "line 1: prices: must be a list"),
        ("prices:\n- price_id: a\n- flat: 3", "line 3: prices[1].flat: must be a mapping of fields"),
        ("prices:\n- flat: {amount: 1}\n  per_unit: {}", "line 3: prices[0].per_unit: cannot stand beside flat"),
        ("currency: USD\ncurrency: EUR", "line 2: currency: stands there twice"),
        ("prices: [{rounding_mode: nearest}]", "line 1: prices[0].rounding_mode: must be one of half_even, half_up"),
        ("version: 1.5", "line 1: version: must be a whole number"),
        ("version: 2147483648", "line 1: version: is too large"),
        ("effective_time: 2026-04-01", "line 1: effective_time: must be an instant with an offset"),
        (
            "prices: [{commitment: {no_true_up: maybe}}]",
            "line 1: prices[0].commitment.no_true_up: must be one of true, false",
        ),
        ("{", "no YAML"),
        ("", "there is nothing in it"),
        ("---\n---\n", "there is nothing in it"),
    ],
)
def test_what_fits_no_field_is_named_with_its_line(text: str, expected: str) -> None:
    assert problems(text)[0].startswith(expected)


def test_every_problem_is_named() -> None:
    assert len(problems("a: 1\nversion: x\n---\nb: 2")) == 3


def test_maps_hold_texts_by_names() -> None:
    (document,) = read_documents("quantities: {b: 1.0, a: on}", charge_service_pb2.PreviewChargeRequest)
    assert dict(document.message.quantities) == {"a": "on", "b": "1.0"}
    assert to_yaml(document.message) == "quantities:\n  a: 'on'\n  b: '1.0'\n"
    for wrong in ("quantities: [a]", "quantities: {a: 1, a: 2}", "quantities: {a: [1]}", "quantities: {[a]: 1}"):
        with pytest.raises(YamlError):
            read_documents(wrong, charge_service_pb2.PreviewChargeRequest)
