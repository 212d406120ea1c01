"""Every program that is measured, behind one interface: open its servers, send once, close.

croc and sendme look for servers of their makers. Here they run where no way leads outside, with servers of their own.
"""

from __future__ import annotations

import getpass
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.benchmarks.field.processes import Ended, FailedError, Program, free_port, free_ports, output_of

if TYPE_CHECKING:
    from tests.benchmarks.field.places import Place

PROGRAMS = Path(sys.executable).parent
WORMHOLE_PACKAGES = (
    "magic-wormhole==0.24.0",
    "magic-wormhole-mailbox-server==0.8.0",
    "magic-wormhole-transit-relay==0.5.0",
)
CROC = "github.com/schollz/croc/v10@v10.7.0"  # needs Go
SENDME = "sendme@0.37.1"  # needs Rust, and ten minutes
DEBIAN_PACKAGES = {"rsync": "rsync", "sshd": "openssh-server", "scp": "openssh-client", "iperf3": "iperf3"}


@dataclass(frozen=True, slots=True)
class Job:
    """One transfer: `out` is a folder that does not exist yet, `timeout_s` ends it."""

    source: Path
    out: Path
    bytes: int
    timeout_s: float


@dataclass(slots=True)
class Run:
    """What one transfer took.

    `whole_s` runs from the start of the receiving process to its exit, `own_s` is the transfer alone where the
    program says when it begins and ends. CPU seconds are those of all its processes on both sides, a relay's left out.
    """

    whole_s: float
    bytes: int
    own_s: float | None = None
    cpu_s: float | None = None
    peak_mb: dict[str, float] = field(default_factory=dict)
    relay_cpu_s: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return asdict(self)


class Contender(ABC):
    """One program in one way of use."""

    name: str
    source = "main"
    compares = True
    most_rounds = 0  # 0: as many as the case has
    is_reference = False  # a reference is no tool of the same kind: a raw limit, a local copy
    is_closed = False  # it would look for servers outside: it runs where there is no way to them

    def __init__(self, place: Place, peers: Path, work: Path) -> None:
        self.place = place.closed() if self.is_closed else place
        self.peers = peers
        self.work = work
        self.programs: list[Program] = []

    def found(self, program: str) -> str | None:
        """Return the path of a peer's program, None where there is none."""
        return shutil.which(program) or shutil.which(program, path=self.peers / "bin")

    @abstractmethod
    def missing(self) -> str | None:
        """Say what is missing for it to run, None where nothing is."""

    @abstractmethod
    def version(self) -> str:
        """Return the version that it names."""

    def open(self) -> None:
        """Start its servers; most have none."""
        return

    @abstractmethod
    def run(self, job: Job) -> Run:
        """Send once; raises FailedError."""

    def close(self) -> None:
        """End its servers."""
        for program in reversed(self.programs):
            program.stop()
        self.programs.clear()

    def server(self, words: list[str], **options: Any) -> Program:
        """Start a server that runs until the case is over."""
        program = Program(words, **options)
        self.programs.append(program)
        return program


def both(sender: Ended, receiver: Ended) -> dict[str, Any]:
    """Return the fields that follow from two ended sides."""
    return {
        "whole_s": receiver.seconds,
        "cpu_s": sender.cpu_s + receiver.cpu_s,
        "peak_mb": {"sender": sender.peak_mb, "receiver": receiver.peak_mb},
    }


class Tallow(Contender):
    """The real commands, with `--yes --json`."""

    name = "tallow"

    route = "direct"
    options: tuple[str, ...] = ()

    def missing(self) -> str | None:
        return None if (PROGRAMS / "tallow").exists() else "tallow is not installed beside this Python"

    def version(self) -> str:
        return output_of([PROGRAMS / "tallow", "--version"]).split()[-1]

    def open(self) -> None:
        self.relay = None
        self.where: list[str] = []
        if self.route == "relay":
            state = self.work / f"relay-{self.name.replace(' ', '-').replace(',', '')}"
            words = ["serve", "--listen", f"{self.place.sender_address}:0", "--json", "--state", state]
            self.relay = self.server(self.place.at_sender(PROGRAMS / "tallow-relay", *words))
            listening = json.loads(self.relay.line(lambda line: '"listening"' in line or '"listen"' in line))
            address = f"{listening['listen']}#{listening['fingerprint']}"
            self.where = ["--relay", address, "--relay-only"]

    def run(self, job: Job) -> Run:
        relay_cpu = self.relay.cpu_s() if self.relay else 0.0
        common = ["--json", *self.where, *self.options]
        sender = Program(
            self.place.at_sender(PROGRAMS / "tallow", "send", *common, job.source),
            environment={"TALLOW_HOME": str(self.work / "home-sender")},
        )
        try:
            event = json.loads(sender.line(lambda line: '"event":"code"' in line.replace(" ", "")))
            direct = (
                []
                if self.relay
                else ["--peer", f"{self.place.sender_address}:{event['peer'].rpartition(':')[2]}"]
            )
            # What only the sender takes stays there.
            receiving = [option for option in common if option != "--no-compress"]
            words = ["receive", "--yes", "--out", job.out, *receiving, *direct, event["code"]]
            receiver = Program(
                self.place.at_receiver(PROGRAMS / "tallow", *words),
                environment={"TALLOW_HOME": str(self.work / "home-receiver")},
            )
            try:
                received = receiver.wait(job.timeout_s)
            finally:
                receiver.stop()
            sent = sender.wait(30)
        finally:
            sender.stop()
        events = [json.loads(line) for line in receiver.text if line.startswith("{")]
        came = {event["event"]: at for event, at in zip(events, receiver.times, strict=True)}
        run = Run(bytes=job.bytes, own_s=came["done"] - came["started"], **both(sent, received))
        run.facts = {e["event"]: e for e in events if e["event"] in {"connected", "path"}}
        run.facts |= {e["event"]: e for e in map(json.loads, sender.text) if e["event"] == "tuned"}
        if self.relay:
            run.relay_cpu_s = self.relay.cpu_s() - relay_cpu
            run.peak_mb["relay"] = self.relay.peak_mb()
        return run


class _Ssh(Contender):
    """What scp and rsync share: a throwaway server with throwaway keys that speaks AES-256-GCM alone."""

    program = ""

    def missing(self) -> str | None:
        for program in (self.program, "ssh", "ssh-keygen"):
            if shutil.which(program) is None:
                return f"{program} is not installed"
        if not Path("/usr/sbin/sshd").exists():
            return "sshd is not installed"
        return None

    def open(self) -> None:
        keys = self.work / f"ssh-{self.program}"
        keys.mkdir(exist_ok=True)
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        for name in ("host", "user"):
            (keys / name).unlink(missing_ok=True)
            words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "benchmark", "-f", str(keys / name)]
            subprocess.run(words, check=True)
        port, address = free_port(), self.place.sender_address
        public = (keys / "host.pub").read_text()
        (keys / "known").write_text(f"[{address}]:{port} {public}")
        (keys / "server").write_text(
            f"Port {port}\nListenAddress {address}\nHostKey {keys / 'host'}\nAuthorizedKeysFile {keys / 'user.pub'}\n"
            "PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            "PermitRootLogin prohibit-password\nCiphers aes256-gcm@openssh.com\nSubsystem sftp internal-sftp\n"
        )
        (keys / "client").write_text(
            f"Host *\nPort {port}\nUser {getpass.getuser()}\nIdentityFile {keys / 'user'}\nIdentitiesOnly yes\n"
            f"UserKnownHostsFile {keys / 'known'}\nStrictHostKeyChecking yes\nCiphers aes256-gcm@openssh.com\n"
            "Compression no\nLogLevel ERROR\n"
        )
        self.client = keys / "client"
        self.daemon = self.server(self.place.at_sender("/usr/sbin/sshd", "-D", "-e", "-f", keys / "server"))
        self.daemon.line(lambda line: "listening" in line)

    def fetch(self, job: Job, *words: object) -> Run:
        """Run the client, which pulls."""
        job.out.mkdir()
        before = self.daemon.cpu_s()
        client = Program(self.place.at_receiver(*words))
        try:
            ended = client.wait(job.timeout_s)
        finally:
            client.stop()
        self.settle()
        served = self.daemon.cpu_s() - before
        return Run(
            whole_s=ended.seconds,
            bytes=job.bytes,
            cpu_s=ended.cpu_s + served,
            peak_mb={"receiver": ended.peak_mb},
        )

    def settle(self) -> None:
        """Wait until the daemon has no session left, so that its children's time is counted."""
        children = Path(f"/proc/{self.daemon.child.pid}/task/{self.daemon.child.pid}/children")
        end = time.monotonic() + 2
        while time.monotonic() < end and children.exists() and children.read_text().strip():
            time.sleep(0.01)

    def remote(self, job: Job) -> str:
        return f"{self.place.sender_address}:{job.source}"


class Scp(_Ssh):
    name = "scp (aes256-gcm)"
    program = "scp"

    def version(self) -> str:
        return output_of(["ssh", "-V"]).split(",")[0].strip()

    def run(self, job: Job) -> Run:
        return self.fetch(job, "scp", "-r", "-q", "-F", self.client, self.remote(job), job.out)


class Rsync(_Ssh):
    name = "rsync over ssh"
    program = "rsync"

    def version(self) -> str:
        return " ".join(output_of(["rsync", "--version"]).split()[2:3])

    def run(self, job: Job) -> Run:
        return self.fetch(job, "rsync", "-a", "-e", f"ssh -F {self.client}", self.remote(job), job.out)


class Iperf(Contender):
    """One TCP stream of a resident buffer: the raw limit. `seconds` bounds it by time in place of bytes."""

    name = "iperf3, one stream"
    compares = False
    is_reference = True
    seconds = 0

    def missing(self) -> str | None:
        return None if shutil.which("iperf3") else "iperf3 is not installed"

    def version(self) -> str:
        return " ".join(output_of(["iperf3", "--version"]).split()[1:2])

    def run(self, job: Job) -> Run:
        port = str(free_port())
        server = Program(self.place.at_receiver("iperf3", "-s", "-1", "-p", port, "--forceflush"))
        try:
            server.line(lambda line: "listening" in line)
            address = self.place.sender_address if self.place.sender_address == "127.0.0.1" else "10.78.0.2"
            amount = ["-t", self.seconds] if self.seconds else ["-n", job.bytes]
            client = Program(self.place.at_sender("iperf3", "-c", address, "-p", port, *amount, "-J"))
            try:
                sent = client.wait(job.timeout_s)
            finally:
                client.stop()
            received = server.wait(10)
        finally:
            server.stop()
        total = json.loads("".join(client.text))["end"]
        run = Run(
            bytes=int(total["sum_received"]["bytes"]),
            own_s=total["sum_received"]["seconds"],
            **both(sent, received),
        )
        run.whole_s = sent.seconds
        run.facts = {"congestion": total.get("sender_tcp_congestion")}
        return run


class Copy(Contender):
    name = "cp -r"
    compares = False
    is_reference = True

    def missing(self) -> str | None:
        return None if shutil.which("cp") else "cp is not installed"

    def version(self) -> str:
        return output_of(["cp", "--version"]).splitlines()[0].split()[-1]

    def run(self, job: Job) -> Run:
        job.out.mkdir()
        program = Program(["cp", "-r", job.source, job.out])
        try:
            ended = program.wait(job.timeout_s)
        finally:
            program.stop()
        return Run(whole_s=ended.seconds, own_s=ended.seconds, bytes=job.bytes, cpu_s=ended.cpu_s)


class Wormhole(Contender):
    """magic-wormhole with a mailbox and a transit server of its own; the two sides connect directly."""

    name = "magic-wormhole"
    listen = "--listen"
    numbers = itertools.count(100)

    @property
    def programs_at(self) -> Path:
        return self.peers / "wormhole" / "bin"

    def missing(self) -> str | None:
        return (
            None
            if (self.programs_at / "wormhole").exists()
            else "magic-wormhole and its servers: use --install-peers"
        )

    def version(self) -> str:
        return output_of([self.programs_at / "wormhole", "--version"]).split()[-1]

    def open(self) -> None:
        address = self.place.sender_address
        self.mailbox, self.transit = free_port(), free_port()
        folder = self.work / f"mailbox-{next(self.numbers)}"
        folder.mkdir()
        words = [
            "wormhole-mailbox",
            "--port",
            f"tcp:{self.mailbox}:interface={address}",
            "--channel-db=m.sqlite",
        ]
        servers = [words, ["transitrelay", "--port", f"tcp:{self.transit}:interface={address}"]]
        self.servers = [
            self.server(self.place.at_sender(self.programs_at / "twist", *words), folder=folder)
            for words in servers
        ]
        for server in self.servers:
            server.line(lambda line: "starting on" in line)

    def command(self, *words: object) -> list[object]:
        address = self.place.sender_address
        urls = [
            "--relay-url",
            f"ws://{address}:{self.mailbox}/v1",
            "--transit-helper",
            f"tcp:{address}:{self.transit}",
        ]
        return [self.programs_at / "wormhole", *urls, *words]

    def run(self, job: Job) -> Run:
        job.out.mkdir()
        code = f"{next(self.numbers)}-benchmark-run"
        relay_cpu = self.servers[1].cpu_s()
        words = ["send", self.listen, "--hide-progress", "--no-qr", "--code", code, job.source]
        sender = Program(self.place.at_sender(*self.command(*words)))
        try:
            sender.line(lambda line: code in line)
            words = ["receive", self.listen, "--hide-progress", "--accept-file", "-o", job.out, code]
            receiver = Program(self.place.at_receiver(*self.command(*words)))
            try:
                received = receiver.wait(job.timeout_s)
            finally:
                receiver.stop()
            sent = sender.wait(30)
        finally:
            sender.stop()
        run = Run(bytes=job.bytes, **both(sent, received))
        if self.listen == "--no-listen":
            run.relay_cpu_s = self.servers[1].cpu_s() - relay_cpu
            run.peak_mb["relay"] = self.servers[1].peak_mb()
        return run


class RelayedWormhole(Wormhole):
    """The same with neither side listening, so that the transit server carries the file."""

    name = "magic-wormhole, relayed"
    listen = "--no-listen"


class Croc(Contender):
    """croc straight to the relay that its sender opens by itself."""

    name = "croc"
    route = "direct"
    options: tuple[str, ...] = ()
    is_closed = True
    numbers = itertools.count(1000)

    def missing(self) -> str | None:
        return (
            self.place.missing()
            if self.found("croc")
            else "it is not installed: use --install-peers with Go at hand"
        )

    def version(self) -> str:
        return output_of([self.found("croc"), "--version"]).split()[-1]

    def open(self) -> None:
        self.port = free_ports(5)
        self.relay = None
        if self.route == "relay":
            words = ["relay", "--host", self.place.sender_address, "--port", self.port]
            self.relay = self.server(self.place.at_sender(self.found("croc"), *words))
            self.relay.line(lambda line: str(self.port) in line)

    def run(self, job: Job) -> Run:
        job.out.mkdir()
        environment = {
            "CROC_SECRET": f"{next(self.numbers)}-benchmark-run-{time.monotonic_ns()}",
            "CROC_CONFIG_DIR": str(self.work / "croc"),
        }
        address = f"{self.place.sender_address}:{self.port}"
        relay_cpu = self.relay.cpu_s() if self.relay else 0.0
        if self.relay:
            relay, sending, receiving = ["--relay", address], ["--no-local"], ["--relay", address]
        else:
            relay, sending, receiving = [], ["--port", self.port], ["--ip", address]
        common = [self.found("croc"), "--yes", "--ignore-stdin", "--disable-clipboard", *self.options]
        sender = Program(
            self.place.at_sender(*common, *relay, "send", *sending, job.source), environment=environment
        )
        try:
            sender.line(lambda line: environment["CROC_SECRET"] in line, job.timeout_s)
            words = [*common, "--overwrite", *receiving, "--out", job.out]
            receiver = Program(self.place.at_receiver(*words), environment=environment)
            try:
                received = receiver.wait(job.timeout_s)
            finally:
                receiver.stop()
            sent = sender.wait(30)
        finally:
            sender.stop()
        run = Run(bytes=job.bytes, **both(sent, received))
        if self.relay:
            run.relay_cpu_s = self.relay.cpu_s() - relay_cpu
            run.peak_mb["relay"] = self.relay.peak_mb()
        return run


class RelayedCroc(Croc):
    """croc through a relay of its own."""

    name = "croc, relayed"
    route = "relay"


class PlainCroc(Croc):
    """croc at its fastest with what cannot be compressed."""

    name = "croc, no compression"
    options = ("--no-compress",)


class RelayedPlainCroc(RelayedCroc):
    """The same through a relay of its own."""

    name = "croc, relayed, no compression"
    options = ("--no-compress",)


class Sendme(Contender):
    name = "sendme"
    is_closed = True

    def missing(self) -> str | None:
        return (
            self.place.missing()
            if self.found("sendme")
            else "it is not installed: use --install-peers with Rust at hand"
        )

    def version(self) -> str:
        return output_of([self.found("sendme"), "--version"]).split()[-1]

    def run(self, job: Job) -> Run:
        job.out.mkdir()
        program = self.found("sendme")
        words = [program, "send", "--relay", "disabled", "--ticket-type", "addresses", job.source]
        sender = Program(self.place.at_sender(*words), folder=self.work)
        try:
            ticket = sender.line(lambda line: "sendme receive" in line, job.timeout_s).split()[-1]
            words = [program, "receive", "--relay", "disabled", ticket]
            receiver = Program(self.place.at_receiver(*words), folder=job.out)
            try:
                received = receiver.wait(job.timeout_s)
            finally:
                receiver.stop()
            sender_cpu = sender.cpu_s()
            sender_peak = sender.peak_mb()
        finally:
            sender.stop()  # it serves until it is stopped
        return Run(
            whole_s=received.seconds,
            bytes=job.bytes,
            cpu_s=received.cpu_s + sender_cpu,
            peak_mb={"sender": sender_peak, "receiver": received.peak_mb},
        )


def tallow(
    name: str, *, route: str = "direct", options: tuple[str, ...] = (), source: str = "main"
) -> type[Tallow]:
    """Return Tallow in another way of use."""
    return type("Tallow", (Tallow,), {"name": name, "route": route, "options": options, "source": source})


def iperf(name: str, seconds: int = 0, most_rounds: int = 0) -> type[Iperf]:
    """Return iperf3 under another name, bounded by time where seconds are given."""
    return type("Iperf", (Iperf,), {"name": name, "seconds": seconds, "most_rounds": most_rounds})


def install_peers(peers: Path) -> None:
    """Install what can be had: packages by apt-get where this is root, magic-wormhole into a venv of its own, croc and
    sendme from their sources where there is a compiler.
    """
    wanted = [
        package
        for program, package in DEBIAN_PACKAGES.items()
        if shutil.which(program) is None and not Path("/usr/sbin", program).exists()
    ]
    if wanted and os.geteuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        apt = ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=400"]
        subprocess.run([*apt, "update"], check=False, env=environment)
        subprocess.run(
            [*apt, "install", "-y", "--no-install-recommends", *wanted], check=False, env=environment
        )
    if not (peers / "wormhole" / "bin" / "wormhole").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", peers / "wormhole"], check=True)
        pip = [str(peers / "wormhole" / "bin" / "python"), "-m", "pip", "--quiet", "install"]
        if subprocess.run([*pip, *WORMHOLE_PACKAGES], check=False).returncode != 0:
            raise FailedError("magic-wormhole could not be installed")
    programs = peers / "bin"
    if shutil.which("go") and not (programs / "croc").exists():
        go = {**os.environ, "GOBIN": str(programs)}
        subprocess.run(["go", "install", CROC], check=False, env=go)
    if shutil.which("cargo") and not (programs / "sendme").exists():
        cargo = ["cargo", "install", "--quiet", "--locked", "--root", peers, SENDME]
        subprocess.run(cargo, check=False)
