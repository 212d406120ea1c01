"""`tallow resume list` and `tallow resume clean`: what interrupted transfers left."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tallow_cli.options import Json

if TYPE_CHECKING:
    from tallow_protocol.disk.leftovers import PartialInfo
    from tallow_store import Database

__all__ = ["resume"]

resume = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Show or remove what interrupted transfers left.\n\n"
    "To go on with one, send the same paths again and receive them into the same folder: what is there is not sent "
    "again.",
)

_DAY_S = 24 * 3600.0

Places = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PLACE...",
        help="Folders that were received into. [default: all that are remembered, and this folder]",
        show_default=False,
    ),
]


@resume.command("list")
def list_(*, places: Places = None, json: Json = False) -> None:
    """List partial files: what, how much of it, how old, where, and from whom."""
    from tallow_protocol.disk.leftovers import list_partials

    from tallow_cli.output.interface import Sink
    from tallow_cli.output.line import event_line

    stdout = Sink.stdout()
    found = [left for place in _places(places) for left in list_partials(place)]
    for left in found:
        if json:
            stdout.line(event_line("partial", **_fields(left)))
        else:
            for line in _lines(left):
                stdout.line(line)
    if not found and not json:
        Sink.stderr().line("No partial files.")


@resume.command("clean")
def clean(
    *,
    places: Places = None,
    older_than: Annotated[
        float,
        typer.Option(
            "--older-than", metavar="DAYS", min=0, help="Only those to which nothing was added for so long."
        ),
    ] = 0.0,
    json: Json = False,
) -> None:
    """Remove partial files. Those that a running transfer uses stay."""
    from tallow_protocol.disk.leftovers import clean_partials, list_partials
    from tallow_store import Database, PartialPlaceStore

    from tallow_cli.output import sizes
    from tallow_cli.output.interface import Sink
    from tallow_cli.output.line import event_line

    files = size_bytes = in_use = 0
    gone = []
    for place in _places(places):
        cleaned = clean_partials(place, older_than_s=older_than * _DAY_S)
        files, size_bytes, in_use = files + cleaned.files, size_bytes + cleaned.bytes, in_use + cleaned.in_use
        if not list_partials(place):
            gone.append(str(place))
    database_file = _database_file()
    if gone and database_file.exists():
        with Database.open(database_file) as database:
            for name in gone:
                PartialPlaceStore(database).forget(None, name)
    if json:
        Sink.stdout().line(event_line("cleaned", files=files, bytes=size_bytes, in_use=in_use))
        return
    used = f" {sizes.count(in_use, 'partial file')} in use stayed." if in_use else ""
    Sink.stderr().line(f"Removed {sizes.count(files, 'partial file')}, {sizes.size(size_bytes)}.{used}")


def _database_file() -> Path:
    from tallow_store import Locations

    return Locations.find(os.environ).database_file


def _places(given: list[str] | None) -> list[Path]:
    """Return the folders to look into, each once: the given ones, or all that are known."""
    if given:
        return list(dict.fromkeys(Path(place).absolute() for place in given))
    places = [Path.cwd()]
    database_file = _database_file()
    if database_file.exists():
        from tallow_store import Database

        with Database.open(database_file) as database:
            places += _remembered(database)
    return list(dict.fromkeys(places))


def _remembered(database: "Database") -> list[Path]:
    from tallow_store import PartialPlaceStore

    return [Path(note.place) for note in PartialPlaceStore(database).all()]


def _fields(left: "PartialInfo") -> dict[str, str | int]:
    from tallow_protocol import PeerText

    return {
        "path": str(PeerText(left.path)),
        "sender": str(left.sender),
        "bytes": left.verified_bytes,
        "total": left.size_bytes,
        "age_s": int(left.age_s),
        "place": str(left.directory),
    }


def _lines(left: "PartialInfo") -> tuple[str, str]:
    from tallow_protocol import PeerText

    from tallow_cli.output import sizes

    share = f"{100 * left.verified_bytes // left.size_bytes:3d} % of {sizes.size(left.size_bytes)}"
    return (
        f"{share}  {PeerText(left.path)}  ({_ago(left.age_s)})",
        f"      in {left.directory}, from {left.sender}",
    )


def _ago(age_s: float) -> str:
    if age_s < 2 * 3600:
        return f"{int(age_s // 60)} min ago"
    if age_s < 2 * _DAY_S:
        return f"{int(age_s // 3600)} h ago"
    return f"{int(age_s // _DAY_S)} days ago"
