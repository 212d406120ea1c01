"""Compression of chunks, each by itself, only where the data shrinks and the link is slower than the compressor."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from tallow_protocol.errors import ViolationError

if TYPE_CHECKING:
    from collections.abc import Callable

    import zstandard

__all__ = ["Compressor", "Decompressor", "Payoff"]

FAST_LEVEL = 1
"""Text to 0.30 to 0.32 of itself, 1.3 times as fast as level 3; negative levels gain 1.2 in speed and lose a third
of the saving (level -5: 0.44 to 0.51), so that no link rate was found where they win."""

SMALL_LEVEL = 3
"""Text to 0.27 to 0.31 of itself: for links that leave the compressor idle most of the time."""

SAMPLE_PIECES = 4
SAMPLE_PIECE_BYTES = 4096
WORTH = 0.9
"""A sample, or a chunk, that does not shrink below this part of itself travels as it is."""

SHORTEST_BYTES = 128
LONGEST_PAUSE = 64
"""After this many chunks at most, data that did not shrink is sampled again."""

STRETCH_BYTES = 4 * 1024 * 1024
"""What is measured before a decision: 10 ms of compressing, and a link of 1 GB/s would have had it in 4."""

STRETCH_S = 1.0
"""On a slow link a decision is not kept waiting for more than this."""

LONGEST_STRETCH = 256
"""A compressor that keeps winning is questioned again after 1 GiB at most."""

LONGEST_PATIENCE = 16
"""A compressor that keeps losing must look better for 64 MiB, or 16 s, before it is begun again."""

STRETCH_BUSY_S = 0.015
"""Work after which compressing is judged whatever it moved, and however much buffers swallow: a slow machine on a
fast link pays no more than this for having tried."""

WORKING = 0.5
"""From this share of the time on, making records may be what bounds the transfer, and not the link. Alone it would
be all of the time; beside a receiver on the same two cores it was measured to be 0.6 to 0.8."""

RESTING = 0.33
"""Below this share there is time for the smaller level, which takes 1.35 times as long."""

GAIN = 1.2
"""Compressing must be expected to be faster by this factor before it is begun again: the two do not alternate."""


class _Way(enum.Enum):
    COMPRESS = "compress"
    PLAIN = "plain"


class Payoff:
    """Decides between compressing and not by the time that the whole way takes per byte. Pure.

    A thread makes a record and sends it, and is held up while the link takes no more. The time from one record's
    start to the next is what counts. While compressing, a thread that is held up shows that the link is the slower
    part: compressing pays. One that never is shows that the link might take more; then a stretch goes plain, past
    what the window and the sockets' buffers swallow, and compressing comes back if reading and compressing
    a byte take less time than a plain byte took.
    """

    def __init__(self) -> None:
        self._way = _Way.COMPRESS
        self.level = FAST_LEVEL
        self._cost_s: float | None = None
        self._stretch = 1
        self._patience = 1
        self._wins = 0
        self._skip = 0
        self._skipped_s = 0.0
        self._trial = False
        self._clear()

    def _clear(self) -> None:
        self._raw = self._wire = 0
        self._cycle = self._busy = 0.0

    @property
    def compresses(self) -> bool:
        """Return whether the next record is to be compressed."""
        return self._way is _Way.COMPRESS

    def record(
        self,
        *,
        raw_bytes: int,
        wire_bytes: int,
        busy_s: float,
        compress_s: float | None,
        cycle_s: float,
        behind_bytes: int,
        window_bytes: int,
    ) -> None:
        """Take the measures of one record.

        `busy_s` is the time to make it, `compress_s` the part of that for compressing (None: it was not), `cycle_s` the
        time until the next one was begun. `behind_bytes` were made and not yet acknowledged, `window_bytes` may be.
        """
        if self._way is _Way.COMPRESS:
            if compress_s is None:
                return  # data that does not shrink says nothing about compressing
            if self.level == FAST_LEVEL:
                cost = compress_s / raw_bytes
                self._cost_s = cost if self._cost_s is None else 0.75 * self._cost_s + 0.25 * cost
        elif self._skip > 0:
            self._skip -= raw_bytes
            self._skipped_s += cycle_s
            if self._trial and self._skipped_s > self._enough_s(busy_s / raw_bytes, window_bytes):
                self._won_trial()
            return
        self._raw += raw_bytes
        self._wire += wire_bytes
        self._busy += busy_s
        self._cycle += cycle_s
        if self._way is _Way.COMPRESS:
            self._judge_compressing(behind_bytes, window_bytes)
        elif self._raw >= STRETCH_BYTES or self._cycle >= STRETCH_S:
            self._judge_plain()

    def _judge_compressing(self, behind_bytes: int, window_bytes: int) -> None:
        worked = self._busy >= STRETCH_BUSY_S * self._stretch
        if self._raw < STRETCH_BYTES * self._stretch and not worked:
            return
        share = self._busy / self._cycle if self._cycle > 0 else 1.0
        if share >= WORKING and self.level != FAST_LEVEL:
            self.level = FAST_LEVEL
        elif share >= WORKING:
            if 2 * behind_bytes > self._wire and not worked:
                return  # buffers swallow it: the link has yet to show what it can do
            self._way, self._trial, self._wins = _Way.PLAIN, True, 0
            self._skip, self._skipped_s = window_bytes, 0.0
        else:
            self._patience = 1
            if share < RESTING:
                self.level = SMALL_LEVEL
        self._clear()

    def _judge_plain(self) -> None:
        expected = self._busy + (self._cost_s or 0.0) * self._raw
        won = expected * GAIN < self._cycle
        self._clear()
        self._wins = self._wins + 1 if won else 0
        if self._trial and won:
            self._won_trial()
        elif self._trial:
            self._trial = False
            self._stretch = 1
            self._patience = min(self._patience * 2, LONGEST_PATIENCE)
        elif self._wins >= self._patience:
            self._way = _Way.COMPRESS

    def _enough_s(self, busy_s_per_byte: float, window_bytes: int) -> float:
        """Return the time in which the whole trial would be over if compressed: longer, and it is decided."""
        return GAIN * (busy_s_per_byte + (self._cost_s or 0.0)) * (window_bytes + STRETCH_BYTES)

    def _won_trial(self) -> None:
        self._way, self._trial, self._skip = _Way.COMPRESS, False, 0
        self._stretch = min(self._stretch * 2, LONGEST_STRETCH)
        self._clear()


class Compressor:
    """Compresses what is worth it, remembers what was not. One caller at a time.

    `clock` gives monotonic seconds; without one, whatever shrinks is compressed. Per record, in this order: `begin`,
    `compress` where that said so, `end`.
    """

    def __init__(self, *, enabled: bool = True, clock: Callable[[], float] | None = None) -> None:
        self._enabled = enabled
        self._clock = clock
        self.payoff = Payoff()
        self._contexts: dict[int, zstandard.ZstdCompressor] = {}
        self._pause = 0
        self._next_pause = 1
        self._sure = False
        self._begun_at = 0.0
        self._ended_at = 0.0
        self._compress_s: float | None = None
        self._record: tuple[int, int] | None = None
        self._made = 0

    def begin(self, length: int, acknowledged_bytes: int = 0, window_bytes: int = 0) -> bool:
        """Begin a record of `length` raw bytes; return whether `compress` is to be tried.

        `acknowledged_bytes` of what `end` was told have arrived, `window_bytes` may be on their way.
        """
        if not self._enabled:
            return False
        if self._clock is not None:
            self._context(FAST_LEVEL)  # loading the library is no part of the first record
            now = self._clock()
            if self._record is not None:
                raw_bytes, wire_bytes = self._record
                self.payoff.record(
                    raw_bytes=raw_bytes,
                    wire_bytes=wire_bytes,
                    busy_s=self._ended_at - self._begun_at,
                    compress_s=self._compress_s,
                    cycle_s=now - self._begun_at,
                    behind_bytes=self._made - acknowledged_bytes,
                    window_bytes=window_bytes,
                )
            self._begun_at, self._compress_s = now, None
        if length < SHORTEST_BYTES or not self.payoff.compresses:
            return False
        if self._pause:
            self._pause -= 1
            return False
        return True

    def end(self, raw_bytes: int, wire_bytes: int) -> None:
        """End a record that is ready to be sealed."""
        if self._enabled and self._clock is not None:
            self._ended_at = self._clock()
            self._record = raw_bytes, wire_bytes
            self._made += wire_bytes

    def compress(self, raw: memoryview, target: memoryview) -> int | None:
        """Write the compressed form of `raw` to `target`, which is as long; return its length, None where it is not worth it."""
        started = self._clock() if self._clock is not None else 0.0
        if self._sure or self._sample_shrinks(raw):
            room = int(WORTH * len(raw))
            shrunk = self._write(self.payoff.level, raw, target[:room])
            if self._clock is not None:
                self._compress_s = self._clock() - started
            if shrunk < room:  # a full buffer may have cut the frame
                self._next_pause = 1
                self._sure = True
                return shrunk
            self._compress_s = None
        self._sure = False
        self._pause = self._next_pause
        self._next_pause = min(self._next_pause * 2, LONGEST_PAUSE)
        return None

    def new_file(self) -> None:
        """Forget what the last file was like."""
        self._pause, self._next_pause, self._sure = 0, 1, False

    def _context(self, level: int) -> zstandard.ZstdCompressor:
        context = self._contexts.get(level)
        if context is None:
            import zstandard

            context = zstandard.ZstdCompressor(level=level, write_checksum=False)
            self._contexts[level] = context
        return context

    def _write(self, level: int, raw: memoryview, target: memoryview) -> int:
        # The reader writes to our memory; `compress` would allocate each result, to be copied from there.
        return self._context(level).stream_reader(raw, size=len(raw)).readinto(target)

    def _sample_shrinks(self, raw: memoryview) -> bool:
        sample = self._sample(raw)
        return len(self._context(FAST_LEVEL).compress(sample)) <= WORTH * len(sample)

    @staticmethod
    def _sample(raw: memoryview) -> bytes:
        if len(raw) <= SAMPLE_PIECES * SAMPLE_PIECE_BYTES:
            return bytes(raw)
        step = (len(raw) - SAMPLE_PIECE_BYTES) // (SAMPLE_PIECES - 1)
        return b"".join(raw[i * step : i * step + SAMPLE_PIECE_BYTES] for i in range(SAMPLE_PIECES))


class Decompressor:
    """Opens what a peer compressed, into no more memory than it declared. One caller at a time."""

    def __init__(self) -> None:
        self._context: zstandard.ZstdDecompressor | None = None

    def decompress(self, body: memoryview, raw_length: int) -> memoryview:
        """Return exactly `raw_length` bytes.

        Raises ViolationError for data that is no zstd frame, or whose frame does not declare that very
        length: the declared size is checked before anything is allocated.
        """
        import zstandard

        if self._context is None:
            self._context = zstandard.ZstdDecompressor()
        try:
            declared = zstandard.get_frame_parameters(bytes(body[:18])).content_size
            if declared != raw_length:
                raise ViolationError("The peer sent compressed data of another length than it declared.")
            raw = self._context.decompress(body, max_output_size=raw_length, allow_extra_data=False)
        except zstandard.ZstdError:
            raise ViolationError("The peer sent compressed data that cannot be opened.") from None
        if len(raw) != raw_length:
            raise ViolationError("The peer sent compressed data of another length than it declared.")
        return memoryview(raw)
