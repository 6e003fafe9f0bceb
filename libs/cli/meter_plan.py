"""What `steelyard meters apply` does with each meter of a file."""

from __future__ import annotations

from libs.cli.connection import request_id
from steelyard import Client
from steelyard.ingest.v1 import meter_pb2, meter_service_pb2

_CREATE, _UPDATE, _SAME = "create", "update", "unchanged"
_DIFFERENT, _ARCHIVED = "DIFFERENT", "ARCHIVED"
REFUSED = frozenset({_DIFFERENT, _ARCHIVED})
"""Plans that cannot be carried out: a meter is there that measures something else, or counts no more."""

_OF_THE_SERVER = ("create_time", "version", "archive_time")
_TEXTS = ("display_name", "description")


async def planned(client: Client, wanted: meter_pb2.Meter, there: meter_pb2.Meter | None) -> str:
    """Return what is to be done; fails if the meter is wrong."""
    as_stored = await create_meter(client, wanted, validate_only=True)
    if there is None:
        return _CREATE
    if there.HasField("archive_time"):
        return _ARCHIVED
    if _without(as_stored, *_TEXTS) != _without(there, *_TEXTS, *_OF_THE_SERVER):
        return _DIFFERENT
    return _SAME if as_stored == _without(there, *_OF_THE_SERVER) else _UPDATE


async def carry_out(client: Client, plan: str, wanted: meter_pb2.Meter, there: meter_pb2.Meter | None) -> None:
    """Create or update the meter, if that is the plan. An update holds for the version that it was planned on."""
    if plan == _CREATE:
        await create_meter(client, wanted)
    elif plan == _UPDATE and there is not None:
        request = meter_service_pb2.UpdateMeterRequest(
            request_id=request_id(), meter=wanted, expected_version=there.version
        )
        await client.services.meters.UpdateMeter(request)


async def create_meter(client: Client, meter: meter_pb2.Meter, *, validate_only: bool = False) -> meter_pb2.Meter:
    """Return the meter as it is, or with `validate_only` would be, stored."""
    request = meter_service_pb2.CreateMeterRequest(request_id=request_id(), meter=meter, validate_only=validate_only)
    return (await client.services.meters.CreateMeter(request)).meter


def _without(meter: meter_pb2.Meter, *names: str) -> meter_pb2.Meter:
    rest = meter_pb2.Meter()
    rest.CopyFrom(meter)
    for name in names:
        rest.ClearField(name)  # type: ignore[arg-type]  # It wants literals.
    return rest
