"""The checkers by name, and which of them a run is judged by."""

from __future__ import annotations

from collections.abc import Mapping

from tests.faults.checkers import money, usage
from tests.faults.checkers.evidence import Checker, Evidence


def converged(evidence: Evidence) -> list[str]:
    """Guarantee: within 60 s after the last fault outboxes are empty, consumers have caught up, nothing is parked."""
    return list(evidence.pending)


def reconciled(evidence: Evidence) -> list[str]:
    """What the services say of themselves agrees, too: otherwise a correct system would page somebody."""
    return list(evidence.reconciliations)


def named(evidence: Evidence) -> list[str]:
    """What the queue lost after it was acknowledged is named by ingest: nothing vanishes without a word."""
    return list(evidence.unnamed)


OF_USAGE: Mapping[str, Checker] = {
    "converged": converged,
    "acknowledged": usage.acknowledged,
    "verdicts": usage.verdicts,
    "fates": usage.fates,
    "windows": usage.windows,
    "watermark": usage.watermark,
    "named": named,
}
OF_A_MONTH: Mapping[str, Checker] = {
    **OF_USAGE,
    "charges": money.charges,
    "invoices": money.invoices,
    "payments": money.payments,
    "ledger": money.ledger,
    "reconciled": reconciled,
}


def violations(evidence: Evidence) -> dict[str, list[str]]:
    """What is wrong, by checker; those that found nothing are left out."""
    checkers = OF_USAGE if evidence.billing is None else OF_A_MONTH
    found = {name: check(evidence) for name, check in checkers.items()}
    return {name: problems for name, problems in found.items() if problems}
