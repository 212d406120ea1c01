"""Networks made by a test: namespaces, wires, bridges and emulated links that vanish with the process that made them.

A namespace here has no name. It is held open by a descriptor of this process and entered by path, so nothing is left
behind even where the process is killed. Needs root and Linux; emulated links need /dev/net/tun.

    async with network() as net:
        a, b = net.namespace("a"), net.namespace("b")
        link = await net.emulate((a, "10.78.0.1/24"), (b, "10.78.0.2/24"), Conditions(delay_s=0.02))
        await a.run("ping", "-c1", "10.78.0.2")
        await link.tell("down")
"""

from __future__ import annotations

import asyncio
import ctypes
import functools
import itertools
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

EMULATOR = Path(__file__).with_name("emulator.py")
TUN = Path("/dev/net/tun")
CLONE_NEWNET = 0x40000000
RUN_S = 60.0
END_S = 10.0

T = TypeVar("T")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def in_thread(work: Callable[[], T]) -> T:
    """Do `work` in a thread of its own, which may change its namespace, and return or raise what it does."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def _new_namespace() -> int:
    """Return a descriptor of a new, empty network namespace."""
    _checked(_libc().unshare(CLONE_NEWNET), "unshare")
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


@functools.cache
def why_not() -> str | None:
    """Return the sentence that says why this machine can make no networks, None where it can."""
    if not sys.platform.startswith("linux"):
        return "network namespaces need Linux"
    for program in ("ip", "nsenter", "setpriv"):
        if shutil.which(program) is None:
            return f"network tests need the program {program} (Debian: iproute2, util-linux)"
    try:
        os.close(in_thread(_new_namespace))
    except OSError as error:
        return f"network namespaces need root ({error.strerror})"
    if not os.access(TUN, os.R_OK | os.W_OK):
        return f"emulated links need {TUN}"
    return None


def skip_without_namespaces() -> None:
    """Skip the running test where no networks can be made; tests/netns does this for each of its tests."""
    import pytest

    if (reason := why_not()) is not None:
        pytest.skip(reason)


@dataclass(frozen=True, slots=True)
class Finished:
    """What a program left: its exit code and everything that it wrote."""

    code: int
    out: str
    err: str


class Namespace:
    """One machine of the network; its processes end with the network."""

    def __init__(self, label: str) -> None:
        self.label = label
        self._descriptor = in_thread(_new_namespace)
        self.path = f"/proc/{os.getpid()}/fd/{self._descriptor}"
        self._children: list[asyncio.subprocess.Process] = []
        self._congestion_control = ""
        self.ip("link", "set", "lo", "up")

    def command(self, *words: object) -> list[str]:
        """Return the command that runs `words` in here; its process is the program's own and dies with ours."""
        return ["setpriv", "--pdeathsig", "KILL", "nsenter", f"--net={self.path}", *map(str, words)]

    def ip(self, *words: object) -> str:
        """Run iproute2's `ip` in here and return what it says."""
        done = subprocess.run(
            self.command("ip", *words), capture_output=True, text=True, timeout=RUN_S, check=False
        )
        if done.returncode != 0:
            raise OSError(f"ip {' '.join(map(str, words))} in {self.label}: {done.stderr.strip()}")
        return done.stdout

    def inside(self, work: Callable[..., T], *arguments: Any) -> T:
        """Call `work` from a thread in here; a socket that it makes stays in here whoever uses it later."""

        def enter() -> T:
            _checked(_libc().setns(self._descriptor, CLONE_NEWNET), "setns")
            return work(*arguments)

        return in_thread(enter)

    def sysctl(self, name: str, value: object) -> None:
        """Set a kernel parameter of this namespace, such as net.ipv4.ip_forward."""
        self.inside(Path("/proc/sys", *name.split(".")).write_text, str(value))

    def congestion_control(self, name: str) -> None:
        """Choose the congestion control of TCP connections made in here from now on: cubic, reno or bbr.

        It is set on the routes of the devices, loopback left out. The kernel parameter of a namespace takes only what the
        machine's own list allows to everybody, which is not ours to change.
        """
        self._congestion_control = name
        self._mark_routes()

    def _mark_routes(self) -> None:
        if not self._congestion_control:
            return
        for family in ("-4", "-6"):
            for route in self.ip(family, "-o", "route", "show").splitlines():
                if not route.startswith(("fe80:", "multicast")) and "congctl" not in route:
                    words = [word for word in route.split() if word != "linkdown"]
                    self.ip(family, "route", "replace", *words, "congctl", self._congestion_control)

    def address(self, device: str, address: str) -> None:
        """Give a device an address with its prefix length, of either family."""
        self.ip("addr", "add", address, "dev", device, *(("nodad",) if ":" in address else ()))
        self._mark_routes()

    def up(self, device: str) -> None:
        """Switch a device on."""
        self.ip("link", "set", device, "up")
        self._mark_routes()

    def down(self, device: str) -> None:
        """Switch a device off: what is sent then fails at once, unlike an emulated link's black hole."""
        self.ip("link", "set", device, "down")

    async def start(
        self, *words: object, environment: Mapping[str, str] | None = None, **pipes: Any
    ) -> asyncio.subprocess.Process:
        """Start a program in here. `environment` adds to ours; pipes default to stdout and stderr."""
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | pipes
        child = await asyncio.create_subprocess_exec(
            *self.command(*words), env={**os.environ, **(environment or {})}, **pipes
        )
        self._children.append(child)
        return child

    async def run(
        self, *words: object, timeout_s: float = RUN_S, environment: Mapping[str, str] | None = None
    ) -> Finished:
        """Run a program in here to its end."""
        child = await self.start(*words, environment=environment)
        async with asyncio.timeout(timeout_s):
            out, err = await child.communicate()
        return Finished(child.returncode or 0, out.decode(errors="replace"), err.decode(errors="replace"))

    async def close(self) -> None:
        """Kill what still runs in here and let go of the namespace."""
        for child in self._children:
            if child.returncode is None:
                with suppress(ProcessLookupError):
                    child.kill()
        for child in self._children:
            async with asyncio.timeout(END_S):
                await child.communicate()
        os.close(self._descriptor)


@dataclass(frozen=True, slots=True)
class Conditions:
    """What an emulated link does to packets, each way; the defaults do nothing.

    A queue limit counts what has not yet left at the link's rate and means nothing without one.
    """

    delay_s: float = 0.0
    jitter_s: float = 0.0  # up to this much more, drawn per packet; packets may overtake each other
    loss: float = 0.0  # 0 to 1, as are the next two
    duplicate: float = 0.0
    reorder: float = 0.0  # this part of the packets travels at half the delay
    rate_bits: float = 0.0  # bits per second, 0 without limit
    queue_packets: int = 0  # 0 without limit
    queue_bytes: int = 0  # 0 without limit
    mtu: int = 0  # longer packets vanish; 0 without limit. The devices' own MTU stays

    def lines(self) -> list[str]:
        """Return the emulator's commands that set all of this."""
        return [f"{field.name} {getattr(self, field.name)}" for field in fields(self)]


class Link:
    """A running emulator between two namespaces."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._turn = asyncio.Lock()

    async def tell(self, command: str) -> str:
        """Change the running link and return once the change holds.

        `[a|b] NAME VALUE` sets one of Conditions, `[a|b] down` and `up` make and end a black hole; a is the way from
        the first namespace to the second, b the way back, neither means both. `forget PORT PORT ...` swallows TCP
        over IPv4 from or to these ports and lets all else pass. `stats` answers with JSON.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        async with self._turn, asyncio.timeout(END_S):
            self._process.stdin.write(command.encode() + b"\n")
            await self._process.stdin.drain()
            answer = (await self._process.stdout.readline()).decode().strip()
        if not answer.startswith("ok"):
            raise ValueError(f"the emulator was told {command!r} and answered {answer!r}")
        return answer.removeprefix("ok").strip()

    async def set(self, conditions: Conditions) -> None:
        """Set every condition, both ways."""
        for line in conditions.lines():
            await self.tell(line)

    async def stats(self) -> dict[str, dict[str, int]]:
        """Return what became of the packets: {"a": {"packets", "bytes", "lost", "overflowed", ...}, "b": ...}."""
        return json.loads(await self.tell("stats"))  # type: ignore[no-any-return]  # json.loads gives Any

    async def close(self) -> None:
        """End the emulator; its devices go with it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(END_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()


class Network:
    """Namespaces and what joins them. Device names are counted: w0 is a namespace's first, w1 its second."""

    def __init__(self) -> None:
        self.namespaces: list[Namespace] = []
        self.links: list[Link] = []
        self._counts: dict[Namespace, itertools.count[int]] = {}

    def namespace(self, label: str = "") -> Namespace:
        """Make a new namespace with a loopback device that is up."""
        made = Namespace(label or f"namespace {len(self.namespaces)}")
        self.namespaces.append(made)
        self._counts[made] = itertools.count()
        return made

    def _device(self, namespace: Namespace) -> str:
        return f"w{next(self._counts[namespace])}"

    def wire(self, a: tuple[Namespace, str], b: tuple[Namespace, str]) -> tuple[str, str]:
        """Join two namespaces by a cable, give each end its address ("10.0.0.1/24"); return the device names."""
        device_a, device_b = self._pair(a[0], b[0])
        for (namespace, address), device in ((a, device_a), (b, device_b)):
            namespace.address(device, address)
        return device_a, device_b

    def bridge(self, members: Sequence[tuple[Namespace, str]]) -> Namespace:
        """Join namespaces by a switch, multicast included; return the switch, whose device for member i is w{i}."""
        switch = self.namespace("switch")
        switch.ip("link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
        switch.up("br0")
        for namespace, address in members:
            device, port = self._pair(namespace, switch)
            switch.ip("link", "set", port, "master", "br0")
            namespace.address(device, address)
        return switch

    def _pair(self, a: Namespace, b: Namespace) -> tuple[str, str]:
        device_a, device_b = self._device(a), self._device(b)
        a.ip("link", "add", device_a, "type", "veth", "peer", "name", device_b, "netns", b.path)
        a.up(device_a)
        b.up(device_b)
        return device_a, device_b

    async def emulate(
        self,
        a: tuple[Namespace, str],
        b: tuple[Namespace, str],
        conditions: Conditions = Conditions(),
        *,
        seed: int = 1,
        mtu: int = 1500,
    ) -> Link:
        """Join two namespaces by an emulated link with these conditions both ways; `mtu` is the devices' own."""
        devices = [self._device(a[0]), self._device(b[0])]
        process = await asyncio.create_subprocess_exec(
            "setpriv", "--pdeathsig", "KILL", sys.executable, "-S", str(EMULATOR), "--seed", str(seed),
            "--a", a[0].path, devices[0], "--b", b[0].path, devices[1],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        link = Link(process)
        self.links.append(link)
        assert process.stdout is not None
        async with asyncio.timeout(END_S):
            if (await process.stdout.readline()).strip() != b"ready":
                raise OSError("the emulator could not make its devices")
        await link.set(conditions)
        for (namespace, address), device in zip((a, b), devices, strict=True):
            namespace.ip("link", "set", device, "mtu", mtu, "txqueuelen", 20_000)
            namespace.address(device, address)
            namespace.up(device)
        return link

    async def close(self) -> None:
        """End every program and link."""
        for namespace in reversed(self.namespaces):
            await namespace.close()
        for link in self.links:
            await link.close()


@asynccontextmanager
async def network() -> AsyncIterator[Network]:
    """Give an empty network and take everything down at the end, whatever happens."""
    net = Network()
    try:
        yield net
    finally:
        await net.close()
