"""`tallow send`."""

import os
from typing import Annotated

import typer

from tallow_cli.options import (
    OFFER,
    PEOPLE,
    WAY,
    Anonymous,
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

__all__ = ["send"]


def send(
    context: typer.Context,
    *,
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATH...",
            help="Files and folders to send; - alone is standard input.",
            show_default=False,
        ),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(
            "--text",
            metavar="TEXT",
            help="Send this text in place of files; it is shown over there.",
            rich_help_panel=OFFER,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            metavar="NAME",
            help="What standard input is called. [default: stdin]",
            rich_help_panel=OFFER,
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            "--exclude",
            metavar="PATTERN",
            help="Leave out what matches, as in a .gitignore file. Repeatable.",
            rich_help_panel=OFFER,
        ),
    ] = None,
    gitignore: Annotated[
        bool,
        typer.Option(
            "--gitignore", help="Leave out what .gitignore files in the folders say.", rich_help_panel=OFFER
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="List what would be sent, and end: no code, no network.", rich_help_panel=OFFER
        ),
    ] = False,
    relay: Relay = None,
    transport: Transport = None,
    relay_only: RelayOnly = False,
    direct_only: DirectOnly = False,
    encrypt_twice: EncryptTwice = False,
    limit: Annotated[
        str | None,
        typer.Option(
            "--limit",
            metavar="RATE",
            help="Send at most so many bytes a second: 500k, 10M, 1.5G.",
            rich_help_panel=WAY,
        ),
    ] = None,
    no_compress: Annotated[
        bool,
        typer.Option(
            "--no-compress",
            help="Send everything as it is, even where smaller would be faster.",
            rich_help_panel=WAY,
        ),
    ] = False,
    code: Annotated[
        str | None,
        typer.Option(
            "--code",
            metavar="CODE",
            help="A code of your own, for one use: NUMBER-word-word-word or NUMBER:TEXT. [env: TALLOW_CODE]",
            rich_help_panel=PEOPLE,
        ),
    ] = None,
    words: Annotated[
        int | None,
        typer.Option(
            "--words",
            metavar="N",
            help="How many words the code has, 3 (the default) to 16.",
            rich_help_panel=PEOPLE,
        ),
    ] = None,
    expire: Annotated[
        str | None,
        typer.Option(
            "--expire",
            metavar="TIME",
            help="End if nobody used the code for so long: 10m, 2h.",
            rich_help_panel=PEOPLE,
        ),
    ] = None,
    rejoin: Rejoin = None,
    verify: Verify = False,
    anonymous: Anonymous = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Send files and folders under a new code.

    Prints the code and the line to run on the other side, then waits for it. Without a relay the other side finds
    this machine by the code on one network, or is told its address by a second line.
    """
    from tallow_protocol import Code

    from tallow_cli import transfer
    from tallow_cli.code_entry import CODE_VARIABLE
    from tallow_cli.commands.beginning import begin
    from tallow_cli.errors import UsageError
    from tallow_cli.sources import what_to_send
    from tallow_cli.wiring import wired

    chosen, screens = begin(
        context,
        sending=True,
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
        words=words,
        limit=limit,
        expire=expire,
        exclude=tuple(exclude or ()),
        gitignore=gitignore,
        no_compress=no_compress,
        lists=dry_run,
    )
    source = what_to_send(paths or [], text, name)
    if dry_run:
        from tallow_cli.dry_run import list_offer

        list_offer(source, screens.output, chosen.exclude, gitignore=chosen.gitignore)
        return
    own_code = code if code is not None else os.environ.get(CODE_VARIABLE)
    if own_code and words is not None:
        raise UsageError(
            f"--words is about a new code, and {'--code' if code is not None else CODE_VARIABLE} gives one"
        )
    parsed = Code.parse(own_code) if own_code else None
    with wired(chosen) as wiring:
        transfer.run(
            transfer.send(
                source,
                code=parsed,
                words=chosen.words,
                wiring=wiring,
                person=screens.person,
                output=screens.output,
            )
        )
