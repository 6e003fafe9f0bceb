"""Rate cards as YAML, read and checked by what the service reads and checks them with."""

from __future__ import annotations

from libs.cli.yaml_messages import read_documents
from services.rating.domain.rate_card import RateCard
from services.rating.domain.validation import check_rate_card
from services.rating.wire.card_reading import Reading
from services.rating.wire.rate_cards import rate_card_from_pb
from steelyard.rating.v1 import rate_card_pb2 as pb


def valid_cards(text: str) -> list[RateCard]:
    """The cards of a file, each of which can be made; an AssertionError names what is wrong with one."""
    found = []
    for document in read_documents(text, pb.RateCard):
        reading = Reading()
        card = rate_card_from_pb(document.message, reading)
        assert (reading.violations, check_rate_card(card)) == ([], [])
        found.append(card)
    return found
