"""A link with delay, jitter, loss, duplication, reordering, a rate and a queue, between two network namespaces.

    python emulator.py --a NAMESPACE DEVICE --b NAMESPACE DEVICE [--seed N]

Makes one TUN device in each namespace (given by path) and moves packets between the two. Says `ready`, then obeys lines
on standard input and answers each with `ok ...` or `error ...`; ends with its input. Imports nothing of ours, so that it
starts at once. The same seed and the same packets give the same fates: each way draws from a generator of its own.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import heapq
import json
import os
import random
import select
import socket
import struct
import sys
import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
CLONE_NEWNET = 0x40000000
READ_BYTES = 9216  # more than any device MTU that a test sets
BATCH = 64  # packets read from one device before what is due goes out
# While packets are on their way the loop sleeps at least this long, so that it moves several at a time. Without it each
# packet of a 200 Mbit/s link costs a wake-up of its own, and the emulator a whole core that the programs under test lack.
QUANTUM_S = 0.000_25


def open_tun(namespace: str, device: str) -> int:
    """Return a TUN device made in the namespace, non-blocking; this process stays in that namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(namespace, os.O_RDONLY)
    if libc.setns(descriptor, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), f"setns {namespace}")
    os.close(descriptor)
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", device.encode(), IFF_TUN | IFF_NO_PI))
    return tun


class Way:
    """One direction: what is read from `source` is written to `sink`."""

    def __init__(self, source: int, sink: int, seed: int) -> None:
        self.source = source
        self.sink = sink
        self.random = random.Random(seed)  # repeatable on purpose
        self.delay_s = self.jitter_s = 0.0
        self.loss = self.duplicate = self.reorder = 0.0
        self.rate_bits = 0.0
        self.queue_packets = self.queue_bytes = self.mtu = 0
        self.is_down = False
        self.forgotten: frozenset[int] = frozenset()
        self.clock = 0.0  # when the last queued packet has left at the rate
        self.leaving: deque[float] = deque()  # the same of each queued packet, kept where packets are counted
        self.flying: list[tuple[float, int, bytes]] = []  # due, order, packet
        self.order = 0
        self.packets = self.bytes = 0
        self.lost = self.duplicated = self.reordered = self.overflowed = self.oversized = self.swallowed = 0
        self.refused = 0  # by the far device, which is down or full

    def take(self) -> bool:
        """Read what the source has, at most BATCH packets; say whether there may be more."""
        read, source, take_in = os.read, self.source, self.admit
        try:
            for _ in range(BATCH):
                take_in(read(source, READ_BYTES), time.monotonic())
        except OSError:  # BlockingIOError: empty; EIO: the device is down
            return False
        return True

    def admit(self, packet: bytes, now: float) -> None:
        """Decide one packet's fate."""
        self.packets += 1
        size = len(packet)
        self.bytes += size
        if self.is_down or (self.forgotten and not self.forgotten.isdisjoint(tcp_ports(packet))):
            self.swallowed += 1
            return
        if self.mtu and size > self.mtu:
            self.oversized += 1
            return
        draw = self.random.random
        if self.loss and draw() < self.loss:
            self.lost += 1
            return
        due = now
        if self.rate_bits:
            if not self.has_room(size, now):
                self.overflowed += 1
                return
            due = self.clock = max(now, self.clock) + size * 8 / self.rate_bits
            if self.queue_packets:
                self.leaving.append(due)
        delay = self.delay_s
        if self.reorder and draw() < self.reorder:
            self.reordered += 1
            delay /= 2
        if self.jitter_s:
            delay += draw() * self.jitter_s
        self.order += 1
        heapq.heappush(self.flying, (due + delay, self.order, packet))
        if self.duplicate and draw() < self.duplicate:
            self.duplicated += 1
            self.order += 1
            heapq.heappush(self.flying, (due + delay, self.order, packet))

    def has_room(self, size: int, now: float) -> bool:
        """Say whether the queue before the rate takes one more packet."""
        if self.queue_bytes and (self.clock - now) * self.rate_bits / 8 + size > self.queue_bytes:
            return False
        if self.queue_packets:
            leaving = self.leaving
            while leaving and leaving[0] <= now:
                leaving.popleft()
            return len(leaving) < self.queue_packets
        return True

    def deliver(self, now: float) -> None:
        """Write every packet that is due."""
        flying = self.flying
        if not flying or flying[0][0] > now:
            return
        pop, write, sink = heapq.heappop, os.write, self.sink
        while flying and flying[0][0] <= now:
            packet = pop(flying)[2]
            try:
                write(sink, packet)
            except OSError:
                self.refused += 1

    def stats(self) -> dict[str, int]:
        """Return the counters."""
        names = (
            "packets", "bytes", "lost", "duplicated", "reordered",
            "overflowed", "oversized", "swallowed", "refused",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names} | {"flying": len(self.flying)}


def tcp_ports(packet: bytes) -> tuple[int, ...]:
    """Return the two ports of a TCP packet over IPv4, nothing of any other."""
    if packet[0] >> 4 != 4 or packet[9] != socket.IPPROTO_TCP:
        return ()
    ports: tuple[int, int] = struct.unpack_from(">HH", packet, 4 * (packet[0] & 15))
    return ports


FLOATS = ("delay_s", "jitter_s", "loss", "duplicate", "reorder", "rate_bits")
WHOLES = ("queue_packets", "queue_bytes", "mtu")


def obey(line: str, ways: dict[str, Way]) -> str:
    """Carry out one command and return the answer."""
    words = line.split()
    if words == ["stats"]:
        return "ok " + json.dumps({name: way.stats() for name, way in ways.items()})
    chosen = [ways[words.pop(0)]] if words and words[0] in ways else list(ways.values())
    if words in (["down"], ["up"]):
        for way in chosen:
            way.is_down = words == ["down"]
            if way.is_down:
                way.swallowed += len(way.flying)
                way.flying.clear()
        return "ok"
    if words[:1] == ["forget"] and all(word.isdigit() for word in words[1:]):
        for way in chosen:
            way.forgotten = frozenset(map(int, words[1:]))
        return "ok"
    kinds: dict[str, Callable[[str], float]] = dict.fromkeys(FLOATS, float) | dict.fromkeys(WHOLES, int)
    if len(words) != 2 or words[0] not in kinds:
        return f"error no such command: {line}"
    try:
        value = kinds[words[0]](words[1])
    except ValueError:
        return f"error no number: {words[1]}"
    for way in chosen:
        setattr(way, words[0], value)
    return "ok"


class Console:
    """Lines of standard input, read as bytes so that none waits in a buffer that select does not see."""

    def __init__(self) -> None:
        self.rest = b""

    def lines(self) -> list[str] | None:
        """Return the whole lines that have come, None at the end of the input."""
        data = os.read(0, 65536)
        if not data:
            return None
        *lines, self.rest = (self.rest + data).split(b"\n")
        return [line.decode() for line in lines]


def run(ways: dict[str, Way]) -> None:
    """Move packets until the input ends."""
    console = Console()
    both = tuple(ways.values())
    sources = [way.source for way in both] + [0]
    while True:
        more = False
        for way in both:
            more = way.take() or more
        now = time.monotonic()
        for way in both:
            way.deliver(now)
        if more:
            ready = select.select([0], [], [], 0)[0]
        else:
            dues = [way.flying[0][0] for way in both if way.flying]
            if dues:
                time.sleep(min(QUANTUM_S, max(0.0, min(dues) - now)) or 0)
                ready = select.select(sources, [], [], max(0.0, min(dues) - time.monotonic()))[0]
            else:
                ready = select.select(sources, [], [])[0]
        if 0 in ready:
            if (lines := console.lines()) is None:
                return
            for line in lines:
                sys.stdout.write(obey(line, ways) + "\n")
            sys.stdout.flush()


def main() -> None:
    """Make the devices and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--a", nargs=2, required=True, metavar=("NAMESPACE", "DEVICE"))
    parser.add_argument("--b", nargs=2, required=True, metavar=("NAMESPACE", "DEVICE"))
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    a, b = open_tun(*options.a), open_tun(*options.b)
    print("ready", flush=True)
    run({"a": Way(a, b, options.seed), "b": Way(b, a, options.seed + 1)})


if __name__ == "__main__":
    main()
