"""Where our own files lie, and how they are kept private: directories 0700, files 0600.

Three places by the platform's rules; `TALLOW_HOME` replaces them all with one directory.
"""

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tallow_store.errors import LocationError

HOME_VARIABLE = "TALLOW_HOME"

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_READ = (
    os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
)


@dataclass(frozen=True, slots=True)
class Locations:
    """The three directories. Nothing exists until something is written there."""

    config_dir: Path
    """What the user writes: config.toml."""

    data_dir: Path
    """What must be kept: the database and its key."""

    state_dir: Path
    """What may be lost: journals and logs."""

    @classmethod
    def find(cls, environment: Mapping[str, str] | None = None) -> "Locations":
        """Return the places for this user: `TALLOW_HOME` where it is set, else the platform's."""
        home = (os.environ if environment is None else environment).get(HOME_VARIABLE, "")
        if home:
            one = Path(home).absolute()
            return cls(one, one, one)
        from platformdirs import PlatformDirs

        places = PlatformDirs("tallow", appauthor=False)
        return cls(places.user_config_path, places.user_data_path, places.user_state_path)

    @property
    def config_file(self) -> Path:
        """The configuration, in TOML."""
        return self.config_dir / "config.toml"

    @property
    def database_file(self) -> Path:
        """The database."""
        return self.data_dir / "tallow.db"

    @property
    def key_file(self) -> Path:
        """The key under which secrets in the database are sealed."""
        return self.data_dir / "store.key"


def make_private_directory(directory: Path) -> None:
    """Make a directory 0700, parents included; one that is laxer is repaired.

    Raises LocationError if it cannot be made, is no directory, or is one that should not be made private:
    another user's, or a shared one (sticky, such as /tmp).
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = directory.stat()
        if os.name != "posix":
            return
        if status.st_uid != os.geteuid():
            raise LocationError(f"the directory {_quoted(directory)} belongs to another user")
        if status.st_mode & stat.S_ISVTX:
            raise LocationError(f"the directory {_quoted(directory)} is shared with other users")
        if stat.S_IMODE(status.st_mode) & 0o077:
            directory.chmod(0o700)
    except FileExistsError:
        raise LocationError(f"{_quoted(directory)} is not a directory") from None
    except (OSError, ValueError) as error:
        raise LocationError(f"cannot use the directory {_quoted(directory)}: {reason_of(error)}") from error


def make_private_file(path: Path, data: bytes) -> bool:
    """Make a whole file of mode 0600 that nobody sees half-written; return False if one was there already.

    What is there is never replaced, so of several processes one wins and the others read the winner's file.
    The data is on the device when this returns True. Raises LocationError.
    """
    with _written_aside(path, data) as temporary:
        return _link(temporary, path)


def replace_private_file(path: Path, data: bytes) -> None:
    """Write a whole file of mode 0600 in place of what is there, at once. Raises LocationError."""
    with _written_aside(path, data) as temporary:
        temporary.replace(path)


@contextlib.contextmanager
def _written_aside(path: Path, data: bytes) -> Iterator[Path]:
    """Give a private file beside `path` whose data is on the device; the caller puts it in place.

    The directory is synced behind that, and what is left of the file is removed. Raises LocationError.
    """
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    try:
        descriptor = os.open(temporary, _NEW_FILE, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield temporary
        finally:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
        _sync_directory(path.parent)
    except OSError as error:
        raise LocationError(f"cannot write {_quoted(path)}: {reason_of(error)}") from error


def repair_file(path: Path) -> None:
    """Take others' rights from a file of ours that is laxer than 0600. Raises LocationError.

    A file of another user is refused; a missing one is none of this function's business.
    """
    try:
        status = path.stat()
        if os.name != "posix":
            return
        if status.st_uid not in {os.geteuid(), 0}:
            raise LocationError(f"the file {_quoted(path)} belongs to another user")
        if stat.S_IMODE(status.st_mode) & 0o077 and status.st_uid == os.geteuid():
            path.chmod(0o600)
    except FileNotFoundError:
        return
    except OSError as error:
        raise LocationError(f"cannot use {_quoted(path)}: {reason_of(error)}") from error


def read_secret_file(path: Path, limit_bytes: int) -> tuple[bytes, bool]:
    """Return a file's bytes, and whether it is ours alone: a regular file, no link, our own, 0600 or less.

    Raises FileNotFoundError if it is not there, LocationError if it cannot be read or has more than
    `limit_bytes` bytes.
    """
    try:
        with os.fdopen(os.open(path, _READ), "rb") as file:
            status = os.fstat(file.fileno())
            data = file.read(limit_bytes + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise LocationError(f"cannot read {_quoted(path)}: {reason_of(error)}") from error
    if len(data) > limit_bytes:
        raise LocationError(f"{_quoted(path)} is longer than the {limit_bytes} bytes that it may have")
    private = stat.S_ISREG(status.st_mode)
    if os.name == "posix":
        private = private and status.st_uid == os.geteuid() and not stat.S_IMODE(status.st_mode) & 0o077
    return data, private


def reason_of(error: Exception) -> str:
    """Return what the system says went wrong, without the path that our sentence names already."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


def _link(temporary: Path, path: Path) -> bool:
    """Give the file its name without replacing; True if it did."""
    try:
        os.link(temporary, path, follow_symlinks=False)
    except FileExistsError:
        return False
    except OSError:
        # A file system without hard links. Exclusive creation is the next best: whole but for a crash here.
        return _copy_exclusively(temporary, path)
    return True


def _copy_exclusively(temporary: Path, path: Path) -> bool:
    try:
        descriptor = os.open(path, _NEW_FILE, 0o600)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "wb") as file:
        file.write(temporary.read_bytes())
        file.flush()
        os.fsync(file.fileno())
    return True


def _sync_directory(directory: Path) -> None:
    """Have the new name on the device too, where directories can be opened."""
    if os.name != "posix":
        return
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _quoted(path: Path) -> str:
    return repr(str(path))
