"""The demo's bills once more, by other means: plain Python over the events, nothing of the product's pricing.

Read beside the demo's price table: each line is written out the way a person with pencil and paper would.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal


@dataclass
class Use:
    """What one customer used, each event once."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True)
class Bill:
    """Lines by name as (quantity, amount), and their sum; text as in the demo's JSON."""

    lines: dict[str, tuple[str, str]] = field(default_factory=dict)
    total: str = ""


def add_up(events: Iterable[tuple[str, int, int]]) -> dict[str, Use]:
    """Add (customer, input tokens, output tokens) up by customer."""
    uses: dict[str, Use] = defaultdict(Use)
    for customer, input_tokens, output_tokens in events:
        use = uses[customer]
        use.requests += 1
        use.input_tokens += input_tokens
        use.output_tokens += output_tokens
    return uses


def bill(use: Use) -> Bill:
    """Price one customer's month."""
    started_hundreds = -(-use.requests // 100)
    total_tokens = use.input_tokens + use.output_tokens
    in_second_tier = min(max(use.input_tokens - 100_000, 0), 900_000)
    in_third_tier = max(use.input_tokens - 1_000_000, 0)
    per_token = Decimal("0.0000001") if total_tokens <= 2_000_000 else Decimal("0.00000008")
    exact = {
        "platform_fee": (1, Decimal("20.00")),
        "requests": (use.requests, started_hundreds * Decimal("0.05")),
        "input_tokens": (
            use.input_tokens,
            in_second_tier * Decimal("0.0000025") + in_third_tier * Decimal("0.000002"),
        ),
        "output_tokens": (use.output_tokens, use.output_tokens * Decimal("0.00001")),
        "total_tokens": (total_tokens, total_tokens * per_token),
    }
    cents = {name: (q, amount.quantize(Decimal("0.01"), ROUND_HALF_EVEN)) for name, (q, amount) in exact.items()}
    total = sum((amount for _, amount in cents.values()), Decimal(0))
    return Bill({name: (str(q), str(amount)) for name, (q, amount) in cents.items()}, str(total))
