"""Options that several commands share, written once."""

from enum import Enum
from typing import Annotated

import typer

__all__ = [
    "ANSWER",
    "OFFER",
    "OTHER",
    "PEOPLE",
    "WAY",
    "Anonymous",
    "Conflict",
    "DirectOnly",
    "EncryptTwice",
    "Json",
    "Quiet",
    "Rejoin",
    "Relay",
    "RelayOnly",
    "Transport",
    "TransportName",
    "Verify",
]

# Groups of options in --help, in whatever order the command has them; `OTHER` comes last.
OFFER = "What is sent"
ANSWER = "What is received, and where it goes"
PEOPLE = "The code and the other side"
WAY = "The way between the two"
OTHER = "Options"


class TransportName(Enum):
    """Values of --transport; the same words as tallow_net's choice, which is not imported for --help."""

    AUTO = "auto"
    QUIC = "quic"
    TCP = "tcp"


class Conflict(Enum):
    """Values of --on-conflict; the same words as tallow_protocol's OnConflict."""

    ASK = "ask"
    SKIP = "skip"
    RENAME = "rename"
    OVERWRITE = "overwrite"
    NEWER = "newer"


Relay = Annotated[
    list[str] | None,
    typer.Option(
        "--relay",
        metavar="ADDRESS",
        help="Meet through this relay, HOST[:PORT][#sha256:HEX]; port 443 if none is given. "
        "May be repeated. [env: TALLOW_RELAY]",
        rich_help_panel=WAY,
    ),
]
Transport = Annotated[
    TransportName | None,
    typer.Option("--transport", help="Use QUIC or TCP alone; auto tries both.", rich_help_panel=WAY),
]
RelayOnly = Annotated[
    bool,
    typer.Option(
        "--relay-only",
        help="Go through the relay alone; the other side does not learn this machine's addresses.",
        rich_help_panel=WAY,
    ),
]
DirectOnly = Annotated[
    bool,
    typer.Option(
        "--direct-only",
        help="Never send file data through a relay; fail where there is no direct path.",
        rich_help_panel=WAY,
    ),
]
EncryptTwice = Annotated[
    bool,
    typer.Option(
        "--encrypt-twice",
        help="Keep file data, which is sealed already, inside the encrypted connection to the relay as well: "
        "slower, for firewalls that let nothing else pass.",
        rich_help_panel=WAY,
    ),
]
Rejoin = Annotated[
    str | None,
    typer.Option(
        "--rejoin",
        metavar="TIME",
        help="Go on trying for this long when the connection is lost: 90s, 10m (the default), 2h; 0 is not at all. "
        "[env: TALLOW_REJOIN]",
        rich_help_panel=WAY,
    ),
]
Verify = Annotated[
    bool,
    typer.Option(
        "--verify",
        help="Show eight digits on both screens; go on only if you say that they are the same.",
        rich_help_panel=PEOPLE,
    ),
]
Anonymous = Annotated[
    bool,
    typer.Option("--anonymous", rich_help_panel=PEOPLE, help="Show the other side a throwaway identity."),
]
Json = Annotated[bool, typer.Option("--json", help="Write one JSON object a line to standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show only the code, questions, and errors.")]
