"""The relay's state directory (0700) and the one thing in it: its certificate, made once and kept (0600).

Clients pin the certificate's public key at their first visit. A new one looks like an attack to all of them, so
nothing here ever replaces a certificate: a file that cannot be used is an error.
"""

import contextlib
import os
import secrets
import ssl
import stat
from pathlib import Path

from tallow_crypto import Secret
from tallow_net.transport.certificates import Certificate, generate_certificate, spki_sha256

from tallow_relay.errors import StateError

CERTIFICATE_FILE = "relay.pem"
_END_OF_KEY = "-----END PRIVATE KEY-----\n"


def default_state_directory() -> Path:
    """Return TALLOW_HOME/relay where TALLOW_HOME is set, else the platform's place for state."""
    home = os.environ.get("TALLOW_HOME")
    if home:
        return Path(home) / "relay"
    import platformdirs

    return Path(platformdirs.user_state_dir("tallow-relay", appauthor=False))


def open_state(directory: Path) -> Certificate:
    """Make the directory if it is missing and return the certificate in it, made now if there is none.

    Raises StateError where the directory or the file is open to others, or cannot be read or written.
    """
    try:
        _private_directory(directory)
        path = directory / CERTIFICATE_FILE
        if not path.exists():
            _make(path)
        return _load(path)
    except OSError as error:
        raise StateError(
            f"the state directory {directory} cannot be used: {error.strerror}",
            hints=("give another directory with --state",),
        ) from None


def _private_directory(directory: Path) -> None:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    info = directory.stat()
    if not stat.S_ISDIR(info.st_mode):
        raise StateError(f"{directory} is no directory")
    if os.name == "nt" or not info.st_mode & 0o077:
        return
    ours = info.st_uid == os.geteuid()
    empty = next(directory.iterdir(), None) is None
    if not ours or not (empty or (directory / CERTIFICATE_FILE).exists()):
        raise StateError(
            f"the state directory {directory} is open to other users",
            hints=(f"close it with: chmod 700 {directory}", "or give another one with --state"),
        )
    directory.chmod(0o700)


def _make(path: Path) -> None:
    """Write key and certificate in one file, whole or not at all, and never over an existing one."""
    made = generate_certificate("tallow-relay")
    text = made.private_key_pem.reveal() + ssl.DER_cert_to_PEM_cert(made.certificate_der).encode("ascii")
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        # Another relay may have been started on this directory at this moment: the first certificate stands.
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()


def _load(path: Path) -> Certificate:
    if os.name != "nt" and path.stat().st_mode & 0o077:
        raise StateError(
            f"the key in {path} is open to other users",
            hints=(f"close it with: chmod 600 {path}",),
        )
    damaged = StateError(
        f"{path} holds no usable key and certificate",
        hints=(
            "restore the file from a backup: clients have pinned its key",
            "or move it away: the relay then makes a new one, and its clients are told that it changed",
        ),
    )
    try:
        text = path.read_text(encoding="ascii")
        key, end, rest = text.partition(_END_OF_KEY)
        certificate_der = ssl.PEM_cert_to_DER_cert(rest)
        # OpenSSL's own check that this key belongs to this certificate.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path)
        return Certificate(certificate_der, Secret((key + end).encode("ascii")), spki_sha256(certificate_der))
    except (ValueError, ssl.SSLError):
        raise damaged from None
