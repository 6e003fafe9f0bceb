"""steelyard replay ..."""

from __future__ import annotations

from typing import Annotated

import typer

from libs.cli.connection import as_tenant, request_id
from libs.cli.output import Columns, Format, Output, instant, name_of, note, quantity, show
from libs.cli.parsing import timestamp
from libs.cli.replay_progress import followed, share
from steelyard import Client
from steelyard.ingest.v1 import replay_service_pb2 as pb

replay = typer.Typer(
    help="Compare usage windows with the log and repair them; count old events for new meters.", no_args_is_help=True
)

REPLAY_COLUMNS: Columns = {
    "REPLAY": lambda found: found.replay_id,
    "MODE": lambda found: name_of(pb.ReplayMode, found.mode, "REPLAY_MODE") + (", dry run" if found.dry_run else ""),
    "STATE": lambda found: _state(found),
    "EVENTS#": lambda found: found.progress.events_in_scope,
    "MEASURED#": lambda found: found.progress.events_measured,
    "UNMEASURED#": lambda found: found.progress.events_unmeasured,
    "WINDOWS#": lambda found: found.progress.windows_built,
    "DIFFERING#": lambda found: found.progress.windows_differing,
    "SWAPPED#": lambda found: found.progress.windows_swapped,
    "STARTED": lambda found: instant(found.start_time),
}
DIFFERENCE_COLUMNS: Columns = {
    "METER": lambda difference: difference.meter_id,
    "CUSTOMER": lambda difference: difference.customer_id,
    "HOUR": lambda difference: instant(difference.hour_time),
    "WINDOWS#": lambda difference: difference.window_count,
    "LIVE#": lambda difference: quantity(difference.live_value),
    "LOG#": lambda difference: quantity(difference.built_value),
    "LIVE EVENTS#": lambda difference: difference.live_event_count,
    "LOG EVENTS#": lambda difference: difference.built_event_count,
}
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="show progress until it needs nothing but you")]


@replay.command("start")
def start(
    meter: Annotated[list[str] | None, typer.Option(help="only this meter; may be repeated")] = None,
    customer: Annotated[list[str] | None, typer.Option(help="only this customer; may be repeated")] = None,
    first: Annotated[str | None, typer.Option("--from", help="first window, by event time")] = None,
    to: Annotated[str | None, typer.Option("--to", help="first window behind it")] = None,
    backfill: Annotated[bool, typer.Option(help="have the meters measure what was recorded before them")] = False,
    dry_run: Annotated[bool, typer.Option(help="only tell the differences")] = False,
    wait: Wait = True,
    output: Output = Format.TABLE,
) -> None:
    """Compare windows with the log. Nothing changes before `steelyard replay confirm`."""
    scope = pb.ReplayScope(
        meter_ids=meter or [],
        customer_ids=customer or [],
        start_time=timestamp(first, "--from"),
        end_time=timestamp(to, "--to"),
    )
    mode = pb.REPLAY_MODE_BACKFILL if backfill else pb.REPLAY_MODE_REBUILD

    async def work(client: Client) -> pb.Replay:
        request = pb.StartReplayRequest(request_id=request_id(), mode=mode, dry_run=dry_run, scope=scope)
        started = (await client.services.replays.StartReplay(request)).replay
        note(f"{started.replay_id} is started; it goes on whether or not this command waits")
        return await followed(client, started) if wait else started

    show([as_tenant(work)], REPLAY_COLUMNS, output)


@replay.command("show")
def show_replay(
    replay_id: str,
    wait: Annotated[bool, typer.Option("--wait", help="show progress until it needs nothing but you")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Show state and progress."""

    async def work(client: Client) -> pb.Replay:
        found = (await client.services.replays.GetReplay(pb.GetReplayRequest(replay_id=replay_id))).replay
        return await followed(client, found) if wait else found

    show([as_tenant(work)], REPLAY_COLUMNS, output)


@replay.command("list")
def list_replays(output: Output = Format.TABLE) -> None:
    """List replays, the newest first."""

    async def work(client: Client) -> list[pb.Replay]:
        found: list[pb.Replay] = []
        request = pb.ListReplaysRequest()
        while True:
            page = await client.services.replays.ListReplays(request)
            found.extend(page.replays)
            request.page_token = page.next_page_token
            if not request.page_token:
                return found

    show(as_tenant(work), REPLAY_COLUMNS, output)


@replay.command("differences")
def differences(replay_id: str, output: Output = Format.TABLE) -> None:
    """List where windows and log differ, by meter, customer and hour."""

    async def work(client: Client) -> list[pb.ReplayDifference]:
        found: list[pb.ReplayDifference] = []
        request = pb.ListReplayDifferencesRequest(replay_id=replay_id, page_size=1_000)
        while True:
            page = await client.services.replays.ListReplayDifferences(request)
            found.extend(page.differences)
            request.page_token = page.next_page_token
            if not request.page_token:
                return found

    show(as_tenant(work), DIFFERENCE_COLUMNS, output)


@replay.command("confirm")
def confirm(replay_id: str, wait: Wait = True, output: Output = Format.TABLE) -> None:
    """Make the windows that differ what the log gives."""

    async def work(client: Client) -> pb.Replay:
        request = pb.ConfirmReplayRequest(request_id=request_id(), replay_id=replay_id)
        confirmed = (await client.services.replays.ConfirmReplay(request)).replay
        return await followed(client, confirmed) if wait else confirmed

    show([as_tenant(work)], REPLAY_COLUMNS, output)


@replay.command("cancel")
def cancel(replay_id: str, output: Output = Format.TABLE) -> None:
    """End a replay that is not confirmed; nothing has changed then."""

    async def work(client: Client) -> pb.Replay:
        request = pb.CancelReplayRequest(request_id=request_id(), replay_id=replay_id)
        return (await client.services.replays.CancelReplay(request)).replay

    show([as_tenant(work)], REPLAY_COLUMNS, output)


def _state(found: pb.Replay) -> str:
    state = name_of(pb.ReplayState, found.state, "REPLAY_STATE")
    if found.failure:
        return f"{state}: {found.failure}"
    return f"{state} {share(found)}".rstrip()
