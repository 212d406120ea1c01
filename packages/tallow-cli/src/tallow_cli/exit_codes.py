"""What `tallow` exits with: one table from an error's stable code to a number.

docs/cli.md prints the same table, and a test compares the two.
"""

from __future__ import annotations

import enum

__all__ = ["EXIT_CODES", "ExitCode", "exit_code_of"]


class ExitCode(enum.IntEnum):
    """Every exit code of `tallow`. Numbers are never reused for another meaning."""

    OK = 0
    INTERNAL = 1
    USAGE = 2
    NO_SUCH_CODE = 3
    EXPIRED = 4
    BURNED = 5
    WRONG_CODE = 6
    UNREACHABLE = 7
    RELAY_FULL = 8
    VERSION = 9
    PEER_LEFT = 10
    REFUSED = 11
    CONFLICT = 12
    NO_SPACE = 13
    FILE = 14
    VIOLATION = 15
    RELAY_CHANGED = 16
    IN_USE = 17
    NOT_VERIFIED = 18
    INTERRUPTED = 130
    """128 + SIGINT, as a shell shows a command that Ctrl-C ended."""
    OUTPUT_CLOSED = 141
    """128 + SIGPIPE: whoever read our standard output went away."""


_CODES: dict[ExitCode, tuple[str, ...]] = {
    ExitCode.INTERNAL: (
        "internal",
        "misuse",
        "unsupported",
        "net_error",
        "crypto",
        "provider_missing",
        "key_exhausted",
    ),
    ExitCode.USAGE: (
        "usage",
        "bad_code",
        "bad_address",
        "bad_config",
        "bad_pattern",
    ),
    ExitCode.NO_SUCH_CODE: (
        "no_such_code",
        "no_such_room",
    ),
    ExitCode.EXPIRED: (
        "expired",
        "room_expired",
        "room_spent",
    ),
    ExitCode.BURNED: (
        "burned",
        "room_burned",
    ),
    ExitCode.WRONG_CODE: ("wrong_code",),
    ExitCode.UNREACHABLE: (
        "relay_unreachable",
        "peer_unreachable",
        "no_path",
        "no_discovery",
        "not_tallow",
        "connect_failed",
        "relay_refused",
        "relay_closing",
        "access_denied",
    ),
    ExitCode.RELAY_FULL: (
        "relay_full",
        "rate_limited",
        "quota_reached",
    ),
    ExitCode.VERSION: ("version",),
    ExitCode.PEER_LEFT: (
        "peer_left",
        "cancelled",
        "connection_lost",
        "end_of_stream",
    ),
    ExitCode.REFUSED: ("refused",),
    ExitCode.CONFLICT: ("conflict",),
    ExitCode.NO_SPACE: (
        "no_space",
        "store_full",
    ),
    ExitCode.FILE: (
        "file",
        "path_missing",
        "unreadable",
        "not_writable",
        "source_changed",
        "bad_name",
        "name_clash",
        "store",
        "store_location",
        "store_database",
        "store_busy",
        "store_damaged",
        "store_newer",
        "store_key",
        "store_sealed",
    ),
    ExitCode.VIOLATION: (
        "violation",
        "bad_request",
        "frame_too_large",
        "malformed_message",
        "unexpected_frame",
        "invalid_key",
        "invalid_point",
        "invalid_signature",
        "not_authentic",
    ),
    ExitCode.RELAY_CHANGED: (
        "relay_changed",
        "relay_certificate",
    ),
    ExitCode.IN_USE: (
        "in_use",
        "two_senders",
        "two_receivers",
        "replaced",
    ),
    ExitCode.NOT_VERIFIED: ("not_verified",),
    ExitCode.INTERRUPTED: ("interrupted",),
    ExitCode.OUTPUT_CLOSED: ("output_closed",),
}

EXIT_CODES: dict[str, ExitCode] = {code: exit_code for exit_code, codes in _CODES.items() for code in codes}
"""From the stable `code` of every error that any package of Tallow raises."""


def exit_code_of(code: str) -> ExitCode:
    """Return the exit code of an error's stable code; a code outside the table is a fault of ours."""
    return EXIT_CODES.get(code, ExitCode.INTERNAL)
