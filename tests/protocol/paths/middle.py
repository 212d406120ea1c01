"""Somebody between: a TCP proxy in threads, which counts, slows, cuts, changes and records what passes.

It tells a data connection (it begins with "TLW1", or with an Attach where the proxy stands before a sender that
listens itself) from all others by its first byte, as any observer could.
"""

import contextlib
import socket
import threading
import time
from dataclasses import dataclass, field

PIECE_BYTES = 64 * 1024
WAIT_S = 30
PREAMBLE = b"TLW1"
ATTACH = (81).to_bytes(4, "big") + b"\x01"


def is_plain_data(first):
    """Whether a connection that begins with these bytes carries sealed records without TLS."""
    return first.startswith((PREAMBLE, ATTACH))


@dataclass
class Passage:
    """One connection: what went from who dialled (`up`) and back (`down`), in bytes, and how it began."""

    number: int
    plain: bool
    first: bytes
    up: int = 0
    down: int = 0
    recorded: dict[str, bytearray] = field(default_factory=lambda: {"up": bytearray(), "down": bytearray()})

    @property
    def total(self):
        return self.up + self.down


class Middle:
    """Listens on 127.0.0.1 and forwards to `target`.

    `tamper(passage, way, offset, data)` returns what to pass on, None to cut the connection; `way` is "up" or
    "down", `offset` what passed that way before. `met(passage, client)` is asked before the target is dialled; False
    ends the connection there. `rate_bytes_s` slows everything together.
    """

    def __init__(self, target, *, rate_bytes_s=0, tamper=None, met=None, record_bytes=4096):
        self.target = target
        self.rate_bytes_s = rate_bytes_s
        self.tamper = tamper or (lambda passage, way, offset, data: data)
        self.met = met or (lambda passage, client: True)
        self.record_bytes = record_bytes
        self.passages = []
        self._next_at = 0.0
        self._lock = threading.Lock()
        self._sockets = set()
        self._closed = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._threads = []
        self._spawn(self._accept)

    @property
    def plain(self):
        return [passage for passage in self.passages if passage.plain]

    @property
    def wrapped(self):
        return [passage for passage in self.passages if not passage.plain]

    def _spawn(self, work, *arguments):
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._spawn(self._serve, client)

    def _serve(self, client):
        server = None
        try:
            self._sockets.add(client)
            first = client.recv(PIECE_BYTES)
            with self._lock:
                passage = Passage(len(self.passages), is_plain_data(first), first)
                self.passages.append(passage)
            if first and self.met(passage, client):
                server = socket.create_connection(self.target, WAIT_S)
                server.settimeout(None)
                self._sockets.add(server)
                back = threading.Thread(
                    target=self._pump, args=(passage, "down", server, client), daemon=True
                )
                back.start()
                self._pump(passage, "up", client, server, first)
                back.join()
        except OSError:
            pass
        finally:
            for sock in filter(None, (client, server)):
                self._sockets.discard(sock)
                sock.close()

    def _pump(self, passage, way, source, sink, data=b""):
        offset = 0
        try:
            while data or (data := source.recv(PIECE_BYTES)):
                self._pace(len(data))
                passed = self.tamper(passage, way, offset, data)
                if passed is None:
                    break
                record = passage.recorded[way]
                record += passed[: self.record_bytes - len(record)]
                sink.sendall(passed)
                offset += len(data)
                setattr(passage, way, offset)
                data = b""
            else:
                sink.shutdown(socket.SHUT_WR)
                return
        except OSError:
            pass
        for sock in (source, sink):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _pace(self, count):
        if not self.rate_bytes_s:
            return
        with self._lock:
            now = time.monotonic()
            self._next_at = max(self._next_at, now) + count / self.rate_bytes_s
            wait_s = self._next_at - now
        time.sleep(max(0.0, wait_s - 0.05))

    def cut(self):
        """End every connection at once and accept none any more."""
        self._closed = True
        self._listener.close()
        for sock in tuple(self._sockets):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def close(self):
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self.cut()
        for thread in self._threads:
            thread.join(WAIT_S)
