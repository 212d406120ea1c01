"""The command `tallow-relay`."""

import argparse
import asyncio
import json
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tallow_net.transport.certificates import Certificate

    from tallow_relay.config import RelayConfig

VERSION = "0.1.0"
DEFAULT_PORT = 443
# Descriptors that are not connections: the pool's 32 pipes, listeners, the loop's own, standard streams, files at start.
RESERVED_DESCRIPTORS = 128
EXIT_OK = 0
EXIT_INTERNAL = 1
EXIT_USAGE = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, 1 (cannot run), 2 (usage or configuration)."""
    options = _parser().parse_args(argv)
    from tallow_relay.errors import ConfigError, RelayError

    try:
        return _serve(options)
    except RelayError as error:
        _complain(str(error), error.hints)
        return EXIT_USAGE if isinstance(error, ConfigError) else EXIT_INTERNAL


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tallow-relay",
        description="The blind relay of Tallow: it joins two connections and copies bytes it cannot read.",
    )
    parser.add_argument("--version", action="version", version=f"tallow-relay {VERSION}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="run a relay until SIGTERM or Ctrl-C")
    serve.add_argument(
        "--listen",
        metavar="HOST:PORT",
        type=parse_listen,
        default=("", DEFAULT_PORT),
        help="where to listen, UDP and TCP on one number; port 0 lets the kernel choose (default: every address, port 443)",
    )
    serve.add_argument("--config", metavar="FILE", type=Path, help="settings (TOML)")
    serve.add_argument("--state", metavar="DIR", type=Path, help="where the certificate is kept")
    serve.add_argument("--json", action="store_true", help="JSON lines on stdout and in the log on stderr")
    return parser


def parse_listen(text: str) -> tuple[str, int]:
    """Return host and port of HOST:PORT, [IPV6]:PORT, HOST or :PORT; 443 without a port, "" for every address."""
    host, colon, number = text.rpartition(":")
    if not colon or (text.startswith("[") and text.endswith("]")):
        host, number = text, str(DEFAULT_PORT)
    elif ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise argparse.ArgumentTypeError(f"{text!r}: an IPv6 address stands in brackets, as [::1]:443")
    if not number.isascii() or not number.isdigit() or int(number) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r}: the port is a number from 0 to 65535")
    return host.removeprefix("[").removesuffix("]"), int(number)


def _serve(options: argparse.Namespace) -> int:
    from tallow_relay.config import RelayConfig
    from tallow_relay.state import default_state_directory, open_state

    config = RelayConfig() if options.config is None else RelayConfig.load(options.config)
    certificate = open_state(options.state if options.state is not None else default_state_directory())
    _set_up_logging(as_json=options.json)
    config = fit_descriptors(config)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_run(config, certificate, options))
    return EXIT_OK


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def fit_descriptors(config: "RelayConfig") -> "RelayConfig":
    """Raise the soft limit of open files to the hard one; return a configuration whose connections fit in it."""
    try:
        import resource
    except ImportError:
        return config
    from tallow_relay import logs

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = config.connections + RESERVED_DESCRIPTORS
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft >= wanted:
        return config
    fitting = max(2, soft - RESERVED_DESCRIPTORS)
    logs.event("few_descriptors", level=logging.WARNING, wanted=config.connections, connections=fitting)
    return replace(config, connections=fitting)


async def _run(config: "RelayConfig", certificate: "Certificate", options: argparse.Namespace) -> None:
    from tallow_relay import logs
    from tallow_relay.server import RelayServer

    loop = asyncio.get_running_loop()
    stop, at_once = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (at_once if stop.is_set() else stop).set()

    loop.set_exception_handler(_report)
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, on_signal)
    host, port = options.listen
    async with RelayServer(config, certificate, host=host, port=port) as server:
        _announce(server.addresses, certificate.spki_sha256, as_json=options.json)
        await stop.wait()
        logs.event("stopping", pairs=server.pairs, waiting=server.waiting)
        drained = loop.create_task(server.drain(config.shutdown_grace_s))
        hurried = loop.create_task(at_once.wait())
        await asyncio.wait({drained, hurried}, return_when=asyncio.FIRST_COMPLETED)
        for task in (drained, hurried):
            task.cancel()
        await asyncio.gather(drained, hurried, return_exceptions=True)
    logs.event("stopped")


def _announce(addresses: tuple[tuple[str, int], ...], spki_sha256: bytes, *, as_json: bool) -> None:
    names = [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in addresses]
    pin = f"sha256:{spki_sha256.hex()}"
    if as_json:
        line = json.dumps({"schema": 1, "event": "listening", "listen": names[0], "fingerprint": pin})
    else:
        line = f"tallow-relay {VERSION} listens on {', '.join(names)} (UDP and TCP), key {pin}"
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    """Log what the loop caught; its context may name addresses, so only the class and place are told."""
    del loop
    from tallow_relay import logs

    error = context.get("exception")
    if isinstance(error, BaseException):
        logs.internal_error(error)
    else:
        logs.event("internal_error", level=logging.ERROR, error="event_loop")


def _set_up_logging(*, as_json: bool) -> None:
    from tallow_relay import logs

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logs.JsonFormatter() if as_json else logs.TextFormatter())
    logs.LOGGER.addHandler(handler)
    logs.LOGGER.setLevel(logging.INFO)
    logs.LOGGER.propagate = False


def _complain(sentence: str, hints: tuple[str, ...]) -> None:
    lines = [f"tallow-relay: error: {sentence}", *(f"hint: {hint}" for hint in hints)]
    sys.stderr.write("\n".join(lines) + "\n")
