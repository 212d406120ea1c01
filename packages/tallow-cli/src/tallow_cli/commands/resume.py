"""`tallow resume list` and `tallow resume clean`: what interrupted transfers left."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tallow_cli.errors import printable
from tallow_cli.options import Json

if TYPE_CHECKING:
    from tallow_protocol.disk.interrupted import InterruptedInfo
    from tallow_protocol.disk.leftovers import CleanedPartials, PartialInfo
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

_NAMES_SHOWN = 3
_NAMES_TOLD = 1000
"""As many as an `offer` event lists entries."""

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
    """List what can go on, how much of it is here, and from whom."""
    from tallow_protocol import NotWritableError

    from tallow_cli.output.interface import Sink
    from tallow_cli.output.line import event_line

    stdout = Sink.stdout()
    found = False
    for place in _places(places):
        try:
            interrupted, partials = _left_in(place)
        except NotWritableError as error:
            if places:
                raise
            Sink.stderr().line(f"tallow: warning: {error}")
            continue
        found = found or bool(interrupted or partials)
        for transfer in interrupted:
            if json:
                stdout.line(event_line("interrupted", **_transfer_fields(transfer)))
            else:
                stdout.line(_transfer_line(transfer))
                stdout.line(_origin_line(transfer))
        for left in partials:
            if json:
                stdout.line(event_line("partial", **_partial_fields(left)))
            else:
                stdout.line(_partial_line(left))
                stdout.line(_origin_line(left))
    if not found and not json:
        Sink.stderr().line("Nothing is left of interrupted transfers.")


@resume.command("clean")
def clean(
    *,
    places: Places = None,
    older_than: Annotated[
        str | None,
        typer.Option("--older-than", metavar="DAYS", help="Only what nothing was added to for so long."),
    ] = None,
    json: Json = False,
) -> None:
    """Remove what is listed, but no file that arrived whole.

    What a running transfer uses stays. What was removed cannot go on: the same paths are sent anew, and files that
    arrived whole are in their way.
    """
    from tallow_protocol import NotWritableError
    from tallow_protocol.disk.leftovers import clean_partials
    from tallow_store import Database, PartialPlaceStore

    from tallow_cli.output.interface import Sink
    from tallow_cli.output.line import event_line

    older_than_s = _days(older_than) * _DAY_S
    cleaned = []
    gone = []
    for place in _places(places):
        try:
            cleaned.append(clean_partials(place, older_than_s=older_than_s))
            if not any(_left_in(place)):
                gone.append(str(place))
        except NotWritableError as error:
            if places:
                raise
            Sink.stderr().line(f"tallow: warning: {error}")
    database_file = _database_file()
    if gone and database_file.exists():
        with Database.open(database_file) as database:
            for name in gone:
                PartialPlaceStore(database).forget(None, name)
    total = _sum(cleaned)
    if json:
        fields = {"files": total.files, "bytes": total.bytes, "in_use": total.in_use}
        Sink.stdout().line(
            event_line("cleaned", **fields, interrupted=total.records, abandoned=total.staging)
        )
    else:
        Sink.stderr().line(_cleaned_line(total))


def _left_in(place: Path) -> "tuple[tuple[InterruptedInfo, ...], tuple[PartialInfo, ...]]":
    from tallow_protocol.disk.interrupted import list_interrupted
    from tallow_protocol.disk.leftovers import list_partials

    return list_interrupted(place), list_partials(place)


def _days(text: str | None) -> float:
    """Return how many days were typed, none where nothing was. Raises UsageError."""
    from tallow_cli.errors import UsageError

    if text is None:
        return 0.0
    if not re.fullmatch(r"[0-9]{1,6}(?:\.[0-9]{1,6})?", text):
        raise UsageError(f"--older-than is a number of days such as 7, not {text!r}")
    return float(text)


def _database_file() -> Path:
    from tallow_store import Locations

    return Locations.find(os.environ).database_file


def _places(given: list[str] | None) -> list[Path]:
    """Return the folders to look into, each once: the given ones, or all that are known.

    Raises PathMissingError for a given one that is not there.
    """
    if given:
        from tallow_protocol import PathMissingError

        for place in given:
            if not Path(place).is_dir():
                raise PathMissingError(f"there is no folder {place!r}")
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


def _transfer_fields(left: "InterruptedInfo") -> dict[str, str | int | list[str]]:
    from tallow_protocol import PeerText

    return {
        "names": [str(PeerText(name)) for name in left.names[:_NAMES_TOLD]],
        "more": max(0, len(left.names) - _NAMES_TOLD),
        "sender": str(left.sender),
        "files": left.files_there,
        "total_files": left.files,
        "bytes": left.bytes_there,
        "age_s": int(left.age_s),
        "place": str(left.directory),
    }


def _partial_fields(left: "PartialInfo") -> dict[str, str | int]:
    from tallow_protocol import PeerText

    return {
        "path": str(PeerText(left.path)),
        "sender": str(left.sender),
        "bytes": left.verified_bytes,
        "total": left.size_bytes,
        "age_s": int(left.age_s),
        "place": str(left.directory),
    }


def _transfer_line(left: "InterruptedInfo") -> str:
    from tallow_protocol import PeerText

    from tallow_cli.output import sizes

    shown = [str(PeerText(name)) for name in left.names[:_NAMES_SHOWN]]
    more = len(left.names) - len(shown)
    names = ", ".join(shown) + (f" and {more:,} more" if more else "")
    share = f"{left.files_there:,} of {sizes.count(left.files, 'file')}, {sizes.size(left.bytes_there)}"
    return f"{names}  {share}  (begun {_ago(left.age_s)})"


def _partial_line(left: "PartialInfo") -> str:
    from tallow_protocol import PeerText

    from tallow_cli.output import sizes

    share = f"{100 * left.verified_bytes // left.size_bytes} % of {sizes.size(left.size_bytes)}"
    return f"{PeerText(left.path)}  {share}  ({_ago(left.age_s)})"


def _origin_line(left: "InterruptedInfo | PartialInfo") -> str:
    return f"    in {printable(str(left.directory))}, from {left.sender}"


def _sum(cleaned: "list[CleanedPartials]") -> "CleanedPartials":
    from tallow_protocol.disk.leftovers import CleanedPartials

    return CleanedPartials(
        files=sum(one.files for one in cleaned),
        bytes=sum(one.bytes for one in cleaned),
        in_use=sum(one.in_use for one in cleaned),
        records=sum(one.records for one in cleaned),
        staging=sum(one.staging for one in cleaned),
    )


def _cleaned_line(total: "CleanedPartials") -> str:
    from tallow_cli.output import sizes

    removed = []
    if total.files or not (total.records or total.staging):
        removed.append(f"{sizes.count(total.files, 'partial file')}, {sizes.size(total.bytes)}")
    if total.records:
        removed.append(f"what was noted of {sizes.count(total.records, 'interrupted transfer')}")
    if total.staging:
        removed.append(f"{sizes.count(total.staging, 'working folder')} of killed transfers")
    stayed = f" {sizes.count(total.in_use, 'partial file')} in use stayed." if total.in_use else ""
    return f"Removed {'; '.join(removed)}.{stayed}"


def _ago(age_s: float) -> str:
    if age_s < 60:
        return "just now"
    if age_s < 2 * 3600:
        return f"{int(age_s // 60)} min ago"
    if age_s < 2 * _DAY_S:
        return f"{int(age_s // 3600)} h ago"
    return f"{int(age_s // _DAY_S)} days ago"
