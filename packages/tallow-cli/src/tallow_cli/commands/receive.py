"""`tallow receive`."""

import os
from typing import Annotated

import typer

from tallow_cli.options import (
    ANSWER,
    WAY,
    Anonymous,
    Conflict,
    DirectOnly,
    EncryptTwice,
    Json,
    Quiet,
    Rejoin,
    Relay,
    RelayOnly,
    Transport,
    Verify,
)

__all__ = ["receive"]


def receive(
    context: typer.Context,
    *,
    code: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CODE",
            help="The code from the sender's screen. Without it: TALLOW_CODE, standard input, or a question.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="The folder to write into, made if missing. [default: this folder]",
            rich_help_panel=ANSWER,
        ),
    ] = None,
    yes: Annotated[
        bool,
        typer.Option(
            "--yes",
            "-y",
            help="Take the offer without asking. Overwrites nothing, unless --on-conflict says so.",
            rich_help_panel=ANSWER,
        ),
    ] = False,
    select: Annotated[
        list[str] | None,
        typer.Option(
            "--select",
            metavar="PATTERN",
            help="Take only paths that match: 'photos/*.jpg', '*.pdf'. Repeatable.",
            rich_help_panel=ANSWER,
        ),
    ] = None,
    on_conflict: Annotated[
        Conflict | None,
        typer.Option(
            "--on-conflict",
            help="What to do where a name is taken already. [default: ask]",
            rich_help_panel=ANSWER,
        ),
    ] = None,
    stdout: Annotated[
        bool,
        typer.Option(
            "--stdout", help="Write the one file or text to standard output.", rich_help_panel=ANSWER
        ),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Begin where the disk seems too small.", rich_help_panel=ANSWER)
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Show the offer and refuse it; the code is used up all the same.",
            rich_help_panel=ANSWER,
        ),
    ] = False,
    relay: Relay = None,
    peer: Annotated[
        str | None,
        typer.Option(
            "--peer",
            metavar="HOST:PORT",
            help="Go straight to a sender that listens there.",
            rich_help_panel=WAY,
        ),
    ] = None,
    transport: Transport = None,
    relay_only: RelayOnly = False,
    direct_only: DirectOnly = False,
    encrypt_twice: EncryptTwice = False,
    rejoin: Rejoin = None,
    verify: Verify = False,
    anonymous: Anonymous = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Receive what is sent under a code.

    Shows what is offered and writes it after a yes. A code given as an argument can be seen by other users of
    this machine while the command runs; it works only once, but on a shared machine leave it out and type it
    when asked.
    """
    from tallow_protocol import OnConflict

    from tallow_cli import transfer
    from tallow_cli.code_entry import read_code
    from tallow_cli.commands.beginning import begin
    from tallow_cli.errors import UsageError
    from tallow_cli.places import check_out
    from tallow_cli.wiring import check_peer, wired

    if stdout and (out is not None or json or dry_run):
        other = "--out" if out is not None else "--json" if json else "--dry-run"
        raise UsageError(f"--stdout excludes {other}")
    if peer is not None and relay:
        raise UsageError("--peer goes straight to the sender, and --relay does not: leave one of them out")
    if not all(pattern.strip("/") for pattern in select or ()):
        raise UsageError("--select is a pattern such as 'photos/*.jpg', not an empty one")
    chosen, screens = begin(
        context,
        sending=False,
        relay=relay,
        transport=transport,
        relay_only=relay_only,
        direct_only=direct_only,
        encrypt_twice=encrypt_twice,
        verify=verify,
        anonymous=anonymous,
        rejoin=rejoin,
        json=json,
        quiet=quiet,
        peer=peer,
        yes=yes or dry_run,
        lists=dry_run,
        stdout_is_data=stdout,
        out=out,
        force=force,
    )
    checked_peer = check_peer(peer)
    if not (stdout or dry_run):
        check_out(chosen.out)
    parsed = read_code(code, os.environ)
    with wired(chosen, direct=peer is not None) as wiring:
        transfer.run(
            transfer.receive(
                parsed,
                chosen.out,
                peer=checked_peer,
                wishes=transfer.Wishes(
                    yes=yes,
                    dry_run=dry_run,
                    select=tuple(select or ()),
                    on_conflict=None if on_conflict is None else OnConflict(on_conflict.value),
                    stdout=stdout,
                    show_text=out is None,
                ),
                wiring=wiring,
                person=screens.person,
                output=screens.output,
            )
        )
