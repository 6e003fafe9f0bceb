"""Expected failures of rating."""

from __future__ import annotations

from libs.errors import AlreadyExists, FailedPrecondition, NotFound


class BillingPeriodNotFound(NotFound):
    """Billing has told us of no such period."""

    reason = "BILLING_PERIOD_NOT_FOUND"


class ChargeNotFound(NotFound):
    """The billing period has no charge for the price."""

    reason = "CHARGE_NOT_FOUND"


class RateCardNotFound(NotFound):
    """There is no such card, or no such version of it."""

    reason = "RATE_CARD_NOT_FOUND"


class RateCardCurrencyFixed(FailedPrecondition):
    """All versions of a card have the currency of the first, and the further ones of those before."""

    reason = "RATE_CARD_CURRENCY_FIXED"


class PriceOverrideNotFound(NotFound):
    """There is no such override."""

    reason = "PRICE_OVERRIDE_NOT_FOUND"


class PriceOverrideExists(AlreadyExists):
    """There is an override of that id."""

    reason = "PRICE_OVERRIDE_EXISTS"


class PriceOverrideEndsEarlier(FailedPrecondition):
    """An end can only become earlier: what was ended may have been agreed anew."""

    reason = "PRICE_OVERRIDE_ENDS_EARLIER"


class NotRated(FailedPrecondition):
    """A billing period cannot be priced at present."""

    reason = "NOT_RATED"


class NotKnown(FailedPrecondition):
    """Charges cannot be told as they were known at an earlier time."""

    reason = "NOT_KNOWN"


class RolloutGuardExceeded(FailedPrecondition):
    """A card would change what customers pay by more than its guard allows."""

    reason = "ROLLOUT_GUARD_EXCEEDED"


class RateCardEffectiveTimeNotLater(FailedPrecondition):
    """A further version must take effect after the one before it."""

    reason = "RATE_CARD_EFFECTIVE_TIME_NOT_LATER"
