"""steelyard findings ..., manifests ... and sources ..."""

from __future__ import annotations

from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from google.protobuf.duration_pb2 import Duration

from libs.cli.connection import as_tenant, request_id
from libs.cli.manifest_file import ManifestFileError, read_manifest
from libs.cli.output import EXIT_USAGE, Columns, Format, Output, fail, instant, name_of, quantity, show
from steelyard import Client
from steelyard.ingest.v1 import finding_pb2
from steelyard.ingest.v1 import finding_service_pb2 as pb

findings = typer.Typer(help="Findings: usage that producers seem not to have delivered.", no_args_is_help=True)
manifests = typer.Typer(help="Manifests: what a source says that it has sent.", no_args_is_help=True)
sources = typer.Typer(help="Sources: what is known and expected of them.", no_args_is_help=True)


class Kind(Enum):
    """What `--kind` and `--hold` take."""

    SEQUENCE_GAP = "sequence-gap"
    SEQUENCE_UNUSABLE = "sequence-unusable"
    SOURCE_SILENT = "source-silent"
    MANIFEST_DISAGREES = "manifest-disagrees"


FINDING_COLUMNS: Columns = {
    "FINDING": lambda finding: finding.finding_id,
    "KIND": lambda finding: name_of(finding_pb2.FindingKind, finding.kind, "FINDING_KIND"),
    "SOURCE": lambda finding: finding.source,
    "EVIDENCE": lambda finding: _evidence(finding),
    "HOLDS": lambda finding: "invoices" if finding.holds_invoices else "",
    "OPENED": lambda finding: instant(finding.open_time),
    "ENDED": lambda finding: _ended(finding),
}
MANIFEST_COLUMNS: Columns = {
    "MANIFEST": lambda manifest: manifest.manifest_id,
    "SOURCE": lambda manifest: manifest.source,
    "PERIOD": lambda manifest: f"{instant(manifest.start_time)} to {instant(manifest.end_time)}",
    "VERSION#": lambda manifest: manifest.version,
    "LINES#": lambda manifest: len(manifest.lines),
    "STATE": lambda manifest: name_of(pb.ManifestState, manifest.state, "MANIFEST_STATE"),
}
EXPECTATION_COLUMNS: Columns = {
    "SOURCE": lambda expected: expected.source or "(all others)",
    "HEARTBEAT": lambda expected: _duration(expected.heartbeat) if expected.HasField("heartbeat") else "",
    "CADENCE": lambda expected: "learned" if expected.learns_cadence else "",
    "ALLOWANCE": lambda expected: _duration(expected.allowance),
    "HOLDS INVOICES": lambda expected: ", ".join(
        name_of(finding_pb2.FindingKind, kind, "FINDING_KIND") for kind in expected.holding_kinds
    ),
}
SOURCE_COLUMNS: Columns = {
    "SOURCE": lambda source: source.source or "(all others)",
    "LAST HEARD": lambda source: instant(source.last_time),
    "OPEN FINDINGS#": lambda source: source.open_findings,
    "HEARTBEAT": lambda source: _expected(source, "HEARTBEAT"),
    "CADENCE": lambda source: _expected(source, "CADENCE"),
    "ALLOWANCE": lambda source: _expected(source, "ALLOWANCE"),
    "HOLDS INVOICES": lambda source: _expected(source, "HOLDS INVOICES"),
}


@findings.command("list")
def list_findings(
    source: Annotated[str, typer.Option(help="only of this source")] = "",
    kind: Annotated[Kind | None, typer.Option(help="only of this kind")] = None,
    resolved: Annotated[bool, typer.Option("--all", help="also those that have ended")] = False,
    output: Output = Format.TABLE,
) -> None:
    """List findings, the newest first."""

    async def work(client: Client) -> list[finding_pb2.Finding]:
        found: list[finding_pb2.Finding] = []
        request = pb.ListFindingsRequest(
            source=source, kind=_kind(kind) if kind else finding_pb2.FINDING_KIND_UNSPECIFIED, include_resolved=resolved
        )
        while True:
            page = await client.services.findings.ListFindings(request)
            found.extend(page.findings)
            request.page_token = page.next_page_token
            if not request.page_token:
                return found

    show(as_tenant(work), FINDING_COLUMNS, output)


@findings.command("resolve")
def resolve(
    finding_id: str,
    reason: Annotated[str, typer.Option(help="why what is missing may be left")],
    actor: Annotated[str, typer.Option(help="who says so")],
    output: Output = Format.TABLE,
) -> None:
    """End a finding; invoices that waited for it go on."""

    async def work(client: Client) -> finding_pb2.Finding:
        request = pb.ResolveFindingRequest(request_id=request_id(), finding_id=finding_id, reason=reason, actor=actor)
        return (await client.services.findings.ResolveFinding(request)).finding

    show([as_tenant(work)], FINDING_COLUMNS, output)


@manifests.command("submit")
def submit(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="YAML or JSON")],
    output: Output = Format.TABLE,
) -> None:
    """Submit what a source has sent for a period that is over."""
    try:
        manifest = read_manifest(file)
    except (OSError, ManifestFileError) as error:
        fail(ValueError(f"{file}: {error}"), EXIT_USAGE)

    async def work(client: Client) -> pb.Manifest:
        request = pb.SubmitManifestRequest(request_id=request_id(), manifest=manifest)
        return (await client.services.findings.SubmitManifest(request)).manifest

    show([as_tenant(work)], MANIFEST_COLUMNS, output)


@manifests.command("list")
def list_manifests(output: Output = Format.TABLE) -> None:
    """List manifests, the newest first."""

    async def work(client: Client) -> list[pb.Manifest]:
        found: list[pb.Manifest] = []
        request = pb.ListManifestsRequest()
        while True:
            page = await client.services.findings.ListManifests(request)
            found.extend(page.manifests)
            request.page_token = page.next_page_token
            if not request.page_token:
                return found

    show(as_tenant(work), MANIFEST_COLUMNS, output)


@sources.command("list")
def list_sources(output: Output = Format.TABLE) -> None:
    """List sources that are watched."""

    async def work(client: Client) -> list[pb.Source]:
        found: list[pb.Source] = []
        request = pb.ListSourcesRequest()
        while True:
            page = await client.services.findings.ListSources(request)
            found.extend(page.sources)
            request.page_token = page.next_page_token
            if not request.page_token:
                return found

    show(as_tenant(work), SOURCE_COLUMNS, output)


@sources.command("expect")
def expect(
    source: Annotated[str, typer.Argument(help="the source; without it: all that have none of their own")] = "",
    heartbeat_s: Annotated[int, typer.Option(min=0, help="it sends at least this often; 0: nothing fixed")] = 0,
    learn: Annotated[bool, typer.Option(help="it is silent by its own habit")] = False,
    allowance_s: Annotated[int, typer.Option(min=0, help="how long a gap may last, and a manifest waits")] = 300,
    hold: Annotated[list[Kind] | None, typer.Option(help="kind of finding that holds invoices")] = None,
    output: Output = Format.TABLE,
) -> None:
    """Say what is expected of a source, in place of what was said before."""
    expectation = pb.SourceExpectation(
        source=source,
        heartbeat=Duration(seconds=heartbeat_s) if heartbeat_s else None,
        learns_cadence=learn,
        allowance=Duration(seconds=allowance_s),
        holding_kinds=[_kind(kind) for kind in hold or []],
    )

    async def work(client: Client) -> pb.SourceExpectation:
        request = pb.SetSourceExpectationRequest(request_id=request_id(), expectation=expectation)
        return (await client.services.findings.SetSourceExpectation(request)).expectation

    show([as_tenant(work)], EXPECTATION_COLUMNS, output)


def _expected(source: pb.Source, column: str) -> object:
    return EXPECTATION_COLUMNS[column](source.expectation) if source.HasField("expectation") else ""


def _kind(kind: Kind) -> finding_pb2.FindingKind.ValueType:
    return finding_pb2.FindingKind.Value(f"FINDING_KIND_{kind.name}")


def _evidence(finding: finding_pb2.Finding) -> str:
    if finding.HasField("silence"):
        silence = finding.silence
        since = f"silent since {instant(silence.last_time)}" if silence.HasField("last_time") else "never sent"
        return f"{since}, expected within {_duration(silence.expected_within)}"
    if finding.HasField("manifest"):
        first = finding.manifest.differences[0]
        counts = f"{first.declared_count} events declared, {first.recorded_count} recorded"
        if first.declared_sum:
            counts += f", sum {quantity(first.declared_sum)} and {quantity(first.recorded_sum)}"
        return f"{finding.manifest.difference_count} lines differ; {first.meter_id}: {counts}"
    numbers = finding.sequence
    what = f"{numbers.missing_count} missing in" if numbers.missing_count else "too many gaps in"
    return f"{what} {numbers.first_missing} to {numbers.last_missing} of {numbers.sequence_epoch or 'the source'}"


def _ended(finding: finding_pb2.Finding) -> str:
    if not finding.HasField("resolve_time"):
        return ""
    by = f"{finding.actor}: {finding.reason}" if finding.actor else "by itself"
    return f"{instant(finding.resolve_time)} {by}"


def _duration(value: Duration) -> str:
    return str(timedelta(seconds=value.seconds))
