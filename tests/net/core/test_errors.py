"""The tree of errors: stable codes, and the tree that the docstring draws."""

import inspect

import pytest
from tallow_net import errors
from tallow_net.errors import (
    ConnectionLostError,
    EndOfStreamError,
    NetError,
    RelayRefusedError,
    RelayUnreachableError,
)

CLASSES = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, NetError)]


def test_codes_are_stable_and_each_is_one_class_s():
    assert {cls.__name__: cls.code for cls in CLASSES} == {
        "NetError": "net_error",
        "MisuseError": "misuse",
        "InvalidAddressError": "bad_address",
        "PeerViolationError": "violation",
        "FrameTooLargeError": "frame_too_large",
        "MalformedMessageError": "malformed_message",
        "UnexpectedFrameError": "unexpected_frame",
        "ConnectionLostError": "connection_lost",
        "EndOfStreamError": "end_of_stream",
        "ConnectError": "connect_failed",
        "RelayUnreachableError": "relay_unreachable",
        "PeerUnreachableError": "peer_unreachable",
        "NotTallowError": "not_tallow",
        "DiscoveryUnavailableError": "no_discovery",
        "CertificateChangedError": "relay_changed",
        "CertificateRefusedError": "relay_certificate",
        "RelayRefusedError": "relay_refused",
    }


def test_the_docstring_draws_the_tree():
    drawn, stack = {}, []
    for line in inspect.getdoc(errors).splitlines():
        name = line.strip().split(" ")[0]
        if not name.endswith("Error") or not line.startswith("    "):
            continue
        depth = (len(line) - len(line.lstrip()) - 4) // 2
        del stack[depth:]
        drawn[name] = stack[-1] if stack else "Exception"
        stack.append(name)
    assert drawn == {cls.__name__: cls.__base__.__name__ for cls in CLASSES}


def test_hints_come_from_the_class_unless_given():
    assert RelayUnreachableError("It did not answer.").hints
    assert RelayUnreachableError("It did not answer.", hints=("Wait.",)).hints == ("Wait.",)


@pytest.mark.parametrize("by", ["peer", "network", "us"])
def test_a_lost_connection_names_who_ended_it(by):
    error = ConnectionLostError("It ended.", by=by)
    assert (error.by, error.retryable, str(error)) == (by, True, "It ended.")


def test_an_end_inside_a_frame_is_the_peer_s():
    assert EndOfStreamError("It ended.").by == "peer"


def test_a_refusal_carries_the_relay_s_code():
    error = RelayRefusedError("The relay is full.", code="relay_full", retry_after_s=30, retryable=True)
    assert (error.code, error.retry_after_s, error.retryable) == ("relay_full", 30, True)
