"""How `send` and `receive` begin: what both were told becomes settings, and the output is opened."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from tallow_cli.commands.screens import open_output
from tallow_cli.wiring import Limits, check_limits, settings

if TYPE_CHECKING:
    import typer

    from tallow_cli.commands.screens import Screens
    from tallow_cli.options import TransportName
    from tallow_cli.wiring import Settings

__all__ = ["begin"]


def begin(
    context: typer.Context,
    *,
    sending: bool,
    relay: list[str] | None,
    transport: TransportName | None,
    relay_only: bool,
    direct_only: bool,
    encrypt_twice: bool,
    verify: bool,
    anonymous: bool,
    rejoin: str | None,
    json: bool,
    quiet: bool,
    peer: str | None = None,
    yes: bool = False,
    lists: bool = False,
    stdout_is_data: bool = False,
    **own: Any,
) -> tuple[Settings, Screens]:
    """Return the settings, of the shared options and the command's `own`, and its output.

    Raises what `settings`, `open_output` and `check_limits` raise, in this order: limits that leave no way are told on the
    output that the options ask for.
    """
    chosen = settings(
        os.environ,
        relays=relay,
        transport=None if transport is None else transport.value,
        verify=verify,
        anonymous=anonymous,
        rejoin=rejoin,
        limits=Limits(relay_only=relay_only, direct_only=direct_only, encrypt_twice=encrypt_twice),
        **own,
    )
    screens = open_output(
        context.obj,
        sending=sending,
        json=json,
        quiet=quiet,
        verify=chosen.verify,
        yes=yes,
        lists=lists,
        stdout_is_data=stdout_is_data,
    )
    check_limits(chosen, peer=peer)
    return chosen, screens
