"""Pricing: pure functions from a price model and a quantity to an exact amount. Nothing here rounds."""

from services.rating.domain.pricing.models import ENGINE_VERSION, amount_of, rate

__all__ = ["ENGINE_VERSION", "amount_of", "rate"]
