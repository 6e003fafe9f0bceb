"""Pages, with requests of the real services."""

from __future__ import annotations

import base64

import pytest

from libs.errors import InvalidInput
from libs.rpc.paging import fitting, next_page_token, page_cursor, page_size
from steelyard.billing.v1.customer_service_pb2 import ListCustomersRequest
from steelyard.billing.v1.invoice_service_pb2 import ListInvoicesRequest


def invoices(**fields: object) -> ListInvoicesRequest:
    return ListInvoicesRequest(**fields)  # type: ignore[arg-type]


class TestPageSize:
    @pytest.mark.parametrize(("asked", "given"), [(0, 100), (1, 1), (1_000, 1_000), (1_001, 1_000), (2**31 - 1, 1_000)])
    def test_coerces(self, asked: int, given: int) -> None:
        assert page_size(invoices(page_size=asked)) == given

    def test_limits_may_differ(self) -> None:
        assert page_size(invoices(), default=5, maximum=10) == 5
        assert page_size(invoices(page_size=11), default=5, maximum=10) == 10

    def test_refuses_negative(self) -> None:
        with pytest.raises(InvalidInput) as caught:
            page_size(invoices(page_size=-1))

        assert (caught.value.reason, caught.value.violations[0].field) == ("PAGE_SIZE_NEGATIVE", "page_size")


class TestFitting:
    @pytest.mark.parametrize(("size_bytes", "given"), [(0, 5), (500_000, 5), (1_000_000, 3), (9_000_000, 1)])
    def test_an_answer_stays_below_the_limit_but_is_never_empty(self, size_bytes: int, given: int) -> None:
        items = [invoices(customer_id="c" * size_bytes) for _ in range(5)]

        assert len(fitting(items)) == given

    def test_of_nothing(self) -> None:
        assert fitting([]) == []


class TestPageToken:
    def test_first_page_has_no_cursor(self) -> None:
        assert page_cursor(invoices(), 1) is None

    @pytest.mark.parametrize("last", [("inv_1",), ("2026-03-01", 'c "\\,[]1'), ("\u00fc\U0001f4a3", ""), ("a",)])
    def test_continues_after_the_last_item(self, last: tuple[str, ...]) -> None:
        token = next_page_token(invoices(customer_id="c1"), last)

        assert page_cursor(invoices(customer_id="c1", page_token=token), len(last)) == last

    def test_page_size_may_change_between_pages(self) -> None:
        token = next_page_token(invoices(page_size=10), ("inv_1",))

        assert page_cursor(invoices(page_size=20, page_token=token), 1) == ("inv_1",)

    def test_leaves_the_request_as_it_was(self) -> None:
        request = invoices(page_size=10, page_token="x")

        next_page_token(request, ("inv_1",))

        assert request == invoices(page_size=10, page_token="x")

    def test_refuses_the_token_of_other_arguments(self) -> None:
        token = next_page_token(invoices(customer_id="c1"), ("inv_1",))

        self.refused(invoices(customer_id="c2", page_token=token))

    def test_refuses_the_token_of_another_list(self) -> None:
        token = next_page_token(invoices(), ("inv_1",))

        with pytest.raises(InvalidInput):
            page_cursor(ListCustomersRequest(page_token=token), 1)

    @pytest.mark.parametrize("token", ["x", "!!!!", "\u00fc", "A" * 5, "A" * 400, "AAAAAAAAAAA"])
    def test_refuses_nonsense(self, token: str) -> None:
        self.refused(invoices(page_token=token))

    def test_refuses_every_changed_token(self) -> None:
        token = next_page_token(invoices(), ("inv_1", "x"))
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))

        for position in range(len(raw)):
            changed = bytearray(raw)
            changed[position] ^= 1
            self.refused(invoices(page_token=base64.urlsafe_b64encode(changed).decode()))
            self.refused(invoices(page_token=base64.urlsafe_b64encode(raw[:position]).decode() or "A"))

    def test_refuses_a_cursor_of_another_shape(self) -> None:
        self.refused(invoices(page_token=next_page_token(invoices(), ("a", "b"))))

    @pytest.mark.parametrize("part", ["a\x00", "\ud800"])
    def test_refuses_what_no_column_of_text_holds(self, part: str) -> None:
        self.refused(invoices(page_token=next_page_token(invoices(), (part,))))

    @staticmethod
    def refused(request: ListInvoicesRequest) -> None:
        with pytest.raises(InvalidInput) as caught:
            page_cursor(request, 1)
        assert caught.value.reason == "PAGE_TOKEN_INVALID"
