"""Take in what rating has published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from services.billing.domain.charge import Charge
from services.billing.domain.watermark import ReceivedWatermark
from services.billing.usecases.ports import ReceivedCharges, Watermarks


class ApplyCharges:
    """Keeps the highest version of each charge, of many tenants in one transaction, then the watermarks behind them.

    A charge that arrives after its period was frozen is kept as the newer version it is; the invoice stays.
    """

    def __init__(self, *, charges: ReceivedCharges, watermarks: Watermarks) -> None:
        self._charges = charges
        self._watermarks = watermarks

    async def __call__(
        self, *, charges: Mapping[str, Sequence[Charge]], watermarks: Sequence[ReceivedWatermark]
    ) -> None:
        if changed := {tenant_id: changed for tenant_id, changed in charges.items() if changed}:
            await self._charges.keep(changed)
        if watermarks:
            await self._watermarks.receive(watermarks)
