"""The relay's log: structured events that name nobody.

An event is a log record whose message is the event's name and whose `fields` are numbers and fixed words. Never in
them: a room id or anything made from it (ten thousand nameplates are searched in no time), an address, a code,
what a client said. A room is a random number that is forgotten with it.
"""

import json
import logging
import traceback
from datetime import UTC, datetime

LOGGER = logging.getLogger("tallow_relay")
SCHEMA = 1


def event(name: str, /, *, level: int = logging.INFO, **fields: float | str) -> None:
    """Log one event."""
    LOGGER.log(level, name, extra={"fields": fields})


def internal_error(error: BaseException) -> None:
    """Log a bug by its class and place only: the text of an exception may hold what a client said."""
    last = traceback.extract_tb(error.__traceback__)[-1:]
    place = f"{last[0].name}:{last[0].lineno}" if last else "unknown"
    event("internal_error", level=logging.ERROR, error=type(error).__name__, place=place)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: schema, event, level, time (UTC), and the event's fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        head = {"schema": SCHEMA, "event": record.getMessage(), "level": record.levelname.lower(), "time": at}
        return json.dumps(head | getattr(record, "fields", {}), separators=(",", ":"))


class TextFormatter(logging.Formatter):
    """One line for people: time, event, key=value."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="seconds")
        fields = getattr(record, "fields", {})
        return " ".join([at, record.getMessage(), *(f"{key}={value}" for key, value in fields.items())])
