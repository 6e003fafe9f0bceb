"""Take in what rating has published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from services.billing.domain.charge import Charge
from services.billing.domain.watermark import ReceivedWatermark
from services.billing.usecases.ports import UnitOfWork, Watermarks


class ApplyCharges:
    """Keeps the highest version of each charge, of many tenants in one transaction, then the watermarks behind them.

    A charge that arrives after its period was frozen is kept as the newer version it is; the invoice stays.
    """

    def __init__(self, *, unit_of_work: UnitOfWork, watermarks: Watermarks) -> None:
        self._unit_of_work = unit_of_work
        self._watermarks = watermarks

    async def __call__(
        self, *, charges: Mapping[str, Sequence[Charge]], watermarks: Sequence[ReceivedWatermark]
    ) -> None:
        tenant_ids = sorted(tenant_id for tenant_id, changed in charges.items() if changed)
        if tenant_ids:
            async with self._unit_of_work.several(tenant_ids) as works:
                for tenant_id in tenant_ids:
                    await works[tenant_id].charges.apply(charges[tenant_id])
        if watermarks:
            await self._watermarks.receive(watermarks)
