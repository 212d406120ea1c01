"""`tallow send`."""

import os
from typing import Annotated

import typer

from tallow_cli.options import (
    Anonymous,
    DirectOnly,
    EncryptTwice,
    Json,
    Quiet,
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
        list[str], typer.Argument(metavar="PATH...", help="Files and folders to send.", show_default=False)
    ],
    relay: Relay = None,
    transport: Transport = None,
    relay_only: RelayOnly = False,
    direct_only: DirectOnly = False,
    encrypt_twice: EncryptTwice = False,
    no_compress: Annotated[
        bool,
        typer.Option("--no-compress", help="Send everything as it is, even where smaller would be faster."),
    ] = False,
    code: Annotated[
        str | None,
        typer.Option(
            "--code",
            metavar="CODE",
            help="A code of your own, for one use: NUMBER-word-word-word or NUMBER:TEXT. [env: TALLOW_CODE]",
        ),
    ] = None,
    words: Annotated[
        int | None,
        typer.Option("--words", metavar="N", help="How many words the code has, 3 (the default) to 16."),
    ] = None,
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
    from tallow_cli.commands.screens import open_output
    from tallow_cli.wiring import Limits, check_limits, settings, wired

    chosen = settings(
        os.environ,
        relays=relay,
        transport=None if transport is None else transport.value,
        verify=verify,
        anonymous=anonymous,
        words=words,
        limits=Limits(relay_only=relay_only, direct_only=direct_only, encrypt_twice=encrypt_twice),
        no_compress=no_compress,
    )
    screens = open_output(context.obj, sending=True, json=json, quiet=quiet, verify=chosen.verify)
    check_limits(chosen)
    own_code = code if code is not None else os.environ.get(CODE_VARIABLE)
    parsed = Code.parse(own_code) if own_code else None
    with wired(chosen) as wiring:
        transfer.run(
            transfer.send(
                paths,
                code=parsed,
                words=chosen.words,
                wiring=wiring,
                person=screens.person,
                output=screens.output,
            )
        )
