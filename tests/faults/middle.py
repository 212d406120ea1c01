"""A middle between two programs: it passes bytes on at a rate, and does one seeded wrong thing to them.

It stands where a hostile or broken relay or network would: below the TLS of a leg, on the plain connections that carry
sealed data, or, with `tls`, as a relay's own end of the TLS, where it sees and alters what the leg carries.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import ssl
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path

PIECE_BYTES = 16 * 1024
KINDS = ("flip", "drop", "reorder", "duplicate", "delay", "truncate", "reset", "stall", "insert")
ALPN = "tallow/1"


@dataclass
class Sabotage:
    """One wrong thing, once, after so many bytes of one way (`up`: from who dials). `seed` decides the rest."""

    kind: str
    after_bytes: int
    up: bool
    seed: int
    done: bool = False

    @classmethod
    def drawn(
        cls, draw: random.Random, within: int, kinds: tuple[str, ...] = KINDS, *, data_up: bool = True
    ) -> Sabotage:
        """Half of them in the first 16 KiB of the way, where handshakes are; most in the way that carries data.

        The other way carries little: there it is in its first 4 KiB.
        """
        early = draw.random() < 0.4
        after = draw.randrange(16 * 1024) if early else draw.randrange(within)
        with_data = draw.random() < 0.7
        kind, seed = draw.choice(kinds), draw.randrange(1 << 30)
        return cls(kind, after if with_data else after % 4096, data_up is with_data, seed)

    def __str__(self) -> str:
        return f"{self.kind} after {self.after_bytes} bytes {'from' if self.up else 'to'} who dials"


class CutError(Exception):
    """The connection is to end; `reset` with an RST."""

    def __init__(self, *, reset: bool) -> None:
        super().__init__()
        self.reset = reset


class Middle:
    """Listens on a port of 127.0.0.1, or of `host`, and dials HOST:PORT for each connection that comes."""

    def __init__(
        self, target: str, *, rate: float = 0.0, sabotage: Sabotage | None = None, tls: bool = False
    ) -> None:
        host, _, port = target.rpartition(":")
        self.target = (host, int(port))
        self.rate = rate
        self.sabotage = sabotage
        self.tls = tls
        self.pin = ""
        self.address = ""
        self.dark = False
        self.passed = {True: 0, False: 0}
        self._free_at = {True: 0.0, False: 0.0}
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen."""
        context = self._certified() if self.tls else None
        self._server = await asyncio.start_server(self._came, "127.0.0.1", 0, ssl=context, limit=PIECE_BYTES)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def _certified(self) -> ssl.SSLContext:
        from cryptography import x509
        from cryptography.hazmat.primitives.serialization import Encoding
        from tallow_net.transport.certificates import generate_certificate

        certificate = generate_certificate()
        self.pin = f"sha256:{certificate.spki_sha256.hex()}"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.set_alpn_protocols([ALPN])
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "pem")
            pem = x509.load_der_x509_certificate(certificate.certificate_der).public_bytes(Encoding.PEM)
            path.write_bytes(certificate.private_key_pem.reveal() + pem)
            context.load_cert_chain(path)
        return context

    def _towards(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols([ALPN])
        return context

    def _came(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(task := asyncio.create_task(self._serve(reader, writer)))
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = [writer]
        pumps: list[asyncio.Task[None]] = []
        reset = self.dark
        try:
            if self.dark:
                return
            context = self._towards() if self.tls else None
            far_reader, far = await asyncio.open_connection(*self.target, ssl=context, limit=PIECE_BYTES)
            ends.append(far)
            self._writers.update(ends)
            pumps = [
                asyncio.create_task(self._pump(reader, far, up=True)),
                asyncio.create_task(self._pump(far_reader, writer, up=False)),
            ]
            done, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_EXCEPTION)
            failures = [failure for task in done if (failure := task.exception()) is not None]
            reset = any(not isinstance(failure, CutError) or failure.reset for failure in failures)
        except OSError:
            reset = True
        finally:
            for task in pumps:
                task.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for end in ends:
                await self._end(end, reset=reset)

    async def _end(self, writer: asyncio.StreamWriter, *, reset: bool) -> None:
        self._writers.discard(writer)
        sock = writer.get_extra_info("socket")
        if reset and sock is not None:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(2):
                await writer.wait_closed()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool) -> None:
        loop = asyncio.get_running_loop()
        while data := await reader.read(PIECE_BYTES):
            if self.rate:
                self._free_at[up] = max(loop.time(), self._free_at[up]) + len(data) / self.rate
                await asyncio.sleep(self._free_at[up] - loop.time())
            plan, before = self.sabotage, self.passed[up]
            self.passed[up] += len(data)
            cut: CutError | None = None
            if plan is not None and not plan.done and plan.up is up and self.passed[up] > plan.after_bytes:
                plan.done = True
                data, cut = await self._spoil(plan, data, plan.after_bytes - before)
            writer.write(data)
            await writer.drain()
            if cut is not None:
                raise cut
        if writer.can_write_eof():
            writer.write_eof()
        else:
            raise CutError(reset=False)  # TLS of this library has no half-close

    async def _spoil(self, plan: Sabotage, data: bytes, at: int) -> tuple[bytes, CutError | None]:
        """Return what is passed on in place of `data`, and how the connection ends then, if it does."""
        draw = random.Random(plan.seed)
        size = draw.choice((1, 16, 500, 4000))
        block, rest = data[at : at + size], data[at + size :]
        if plan.kind == "flip":
            return data[:at] + bytes((data[at] ^ 1 << draw.randrange(8),)) + data[at + 1 :], None
        if plan.kind == "drop":
            return data[:at] + rest, None
        if plan.kind == "duplicate":
            return data[:at] + block + block + rest, None
        if plan.kind == "insert":
            return data[:at] + draw.randbytes(size) + block + rest, None
        if plan.kind == "reorder":
            half = len(rest) // 2
            return data[:at] + rest[:half] + block + rest[half:], None
        if plan.kind == "delay":
            await asyncio.sleep(draw.uniform(1, 6))
            return data, None
        if plan.kind == "stall":
            await asyncio.Event().wait()
        return data[:at], CutError(reset=plan.kind == "reset")

    async def drop_all(self) -> None:
        """End every connection with an RST; new ones are taken unless it is dark."""
        for writer in list(self._writers):
            await self._end(writer, reset=True)

    async def close(self) -> None:
        """End everything."""
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
