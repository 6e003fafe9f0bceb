"""Who may call what."""

from __future__ import annotations

from libs.rpc import Audience

_PACKAGE = "steelyard.ingest.v1"
_ANYBODY_OF_TENANT = Audience.TENANT | Audience.INTERNAL

ACCEPT_METHODS: dict[str, Audience] = {
    f"{_PACKAGE}.IngestService/{method}": Audience.TENANT
    for method in ("IngestEvents", "StreamEvents", "IngestCloudEvents")
}

QUERY_METHODS: dict[str, Audience] = {
    f"{_PACKAGE}.{method}": audience
    for method, audience in {
        "MeterService/CreateMeter": _ANYBODY_OF_TENANT,
        "MeterService/GetMeter": _ANYBODY_OF_TENANT,
        "MeterService/ListMeters": _ANYBODY_OF_TENANT,
        "MeterService/UpdateMeter": _ANYBODY_OF_TENANT,
        "MeterService/ArchiveMeter": _ANYBODY_OF_TENANT,
        "MeterService/ListMeterVersions": _ANYBODY_OF_TENANT,
        "UsageService/QueryUsage": _ANYBODY_OF_TENANT,
        "UsageService/GetEvent": _ANYBODY_OF_TENANT,
        "UsageService/ListEvents": _ANYBODY_OF_TENANT,
        "UsageService/GetEventStatus": _ANYBODY_OF_TENANT,
        "UsageService/GetBatchStatuses": _ANYBODY_OF_TENANT,
        "UsageService/ListEventExceptions": _ANYBODY_OF_TENANT,
        "UsageService/GetEventCounts": _ANYBODY_OF_TENANT,
        "UsageWindowService/ListUsageWindows": Audience.INTERNAL,
        "UsageWindowService/GetUsageDigests": Audience.INTERNAL,
        "UsageWindowService/GetUsageQuantities": Audience.INTERNAL,
        "FateService/GetFateCounts": _ANYBODY_OF_TENANT,
        "FateService/ListFateDifferences": _ANYBODY_OF_TENANT,
        "MeasuringService/MeasureEvents": _ANYBODY_OF_TENANT,
        "FindingService/ListFindings": _ANYBODY_OF_TENANT,
        "FindingService/ResolveFinding": _ANYBODY_OF_TENANT,
        "FindingService/SubmitManifest": _ANYBODY_OF_TENANT,
        "FindingService/ListManifests": _ANYBODY_OF_TENANT,
        "FindingService/SetSourceExpectation": _ANYBODY_OF_TENANT,
        "FindingService/ListSources": _ANYBODY_OF_TENANT,
        "ReplayService/StartReplay": _ANYBODY_OF_TENANT,
        "ReplayService/GetReplay": _ANYBODY_OF_TENANT,
        "ReplayService/ListReplays": _ANYBODY_OF_TENANT,
        "ReplayService/ListReplayDifferences": _ANYBODY_OF_TENANT,
        "ReplayService/ConfirmReplay": _ANYBODY_OF_TENANT,
        "ReplayService/CancelReplay": _ANYBODY_OF_TENANT,
        "ReconciliationService/Reconcile": _ANYBODY_OF_TENANT,
        "HoldService/ListHolds": Audience.OPERATOR,
        "HoldService/ResolveHold": Audience.OPERATOR,
        "HoldService/ListHoldResolutions": Audience.OPERATOR,
        "CorrectionService/VoidEvents": _ANYBODY_OF_TENANT,
        "CorrectionService/ReplaceEvents": _ANYBODY_OF_TENANT,
        "CorrectionService/ListCorrections": _ANYBODY_OF_TENANT,
        "LogService/GetLogHead": _ANYBODY_OF_TENANT,
        "LogService/ListSeals": _ANYBODY_OF_TENANT,
        "LogService/GetSeal": _ANYBODY_OF_TENANT,
        "LogService/GetReceipts": _ANYBODY_OF_TENANT,
        "LogService/VerifyLog": _ANYBODY_OF_TENANT,
    }.items()
}
