"""The tables of docs/protocol.md say what the code says."""

from __future__ import annotations

import dataclasses
import re

import pytest
import tallow_net.limits
import tallow_protocol.limits
from tallow_crypto import cpace, kem
from tallow_net import signaling
from tallow_protocol.core import handshake, labels, messages, records, version
from tallow_protocol.core.attach import ACK_TYPE, ATTACH_TYPE
from tallow_protocol.core.codes import AbortCode, CloseCode

from tests.docs.markdown import PROTOCOL, code_of, table

TEXT = PROTOCOL.read_text(encoding="utf-8")


def names_of(codes: type[AbortCode | CloseCode | signaling.ErrorCode]) -> dict[int, str]:
    return {int(code): code.name.lower() for code in codes}


def test_abort_codes_are_those_of_the_code() -> None:
    assert code_of(table("abort-codes")) == names_of(AbortCode)


def test_refuse_and_cancel_codes_are_those_of_the_code() -> None:
    assert code_of(table("close-codes")) == names_of(CloseCode)


def test_relay_error_codes_are_those_of_the_code() -> None:
    assert code_of(table("error-codes")) == names_of(signaling.ErrorCode)


def test_leave_reasons_are_those_of_the_code() -> None:
    stated = ", ".join(f"{reason.value} {reason.name.lower()}" for reason in signaling.LeaveReason)
    assert f"reason ({stated})" in TEXT


def test_messages_and_their_fields_are_those_of_the_code() -> None:
    rows = table("messages")
    assert [int(row["type"]) for row in rows] == list(messages.MessageType)
    for row in rows:
        message = getattr(messages, row["message"])
        number = messages.MessageType[re.sub(r"(?<!^)(?=[A-Z])", "_", row["message"]).upper()]
        assert int(row["type"]) == number
        fields = [f.name for f in dataclasses.fields(message) if f.name != "raw"]
        assert row["fields, keys from 1"] == (", ".join(fields) or "(none)")


def test_signaling_messages_and_their_fields_are_those_of_the_code() -> None:
    for row in table("signaling"):
        name = "SignalingError" if row["message"] == "Error" else row["message"]
        message = getattr(signaling, name)
        fields = ["room_id" if f.name == "room_ids" else f.name for f in dataclasses.fields(message)]
        assert row["fields, keys from 1"] == (", ".join(fields) or "(none)")
        assert int(row["type"]) == signaling._BY_CLASS[message].number
    assert len(table("signaling")) == len(signaling._BY_CLASS)


@pytest.mark.parametrize("name", ["limits", "times"])
def test_limits_are_those_of_the_code(name: str) -> None:
    for row in table(name):
        constant = row["name"]
        stated = float(row["seconds"]) if name == "times" else int(row["value"])
        found = [
            getattr(module, constant)
            for module in (tallow_protocol.limits, tallow_net.limits)
            if hasattr(module, constant)
        ]
        assert found, constant
        assert all(value == stated for value in found), constant


def test_no_protocol_limit_of_the_code_is_missing_in_the_document() -> None:
    stated = {row["name"] for row in table("limits")} | {row["name"] for row in table("times")}
    own = {"WORD_SUGGESTIONS", "SAS_NONCE_BYTES", "CONNECTION_NUMBER_MAX", "WORKER_THREADS", "DATA_THREADS"}
    missing = {name for name in vars(tallow_protocol.limits) if name.isupper()} - stated - own
    assert not missing


def test_every_label_of_the_code_is_in_the_document() -> None:
    stated = {row["label"] for row in table("labels")}
    in_code = {
        value.decode() if isinstance(value, bytes) else value
        for name, value in vars(labels).items()
        if name.isupper() and name != "KEY_PREFIX"
    }
    keyed = {"confirm A", "confirm B", "paths", "rejoin room", "contact", "tag", "attach", "conn"}
    assert {f"tallow/1 {label}" if label in keyed else label for label in in_code} <= stated
    assert kem._LABEL.decode() in stated
    assert {cpace._DSI.decode(), cpace._DSI_ISK.decode()} <= stated


def test_every_label_in_the_document_is_in_the_code() -> None:
    sources = "".join(
        path.read_text(encoding="utf-8")
        for package in ("tallow-crypto", "tallow-net", "tallow-protocol")
        for path in (PROTOCOL.parents[1] / "packages" / package / "src").rglob("*.py")
    )
    for row in table("labels"):
        label = row["label"]
        assert any(form in sources for form in (f'"{label}', f'"{label.removeprefix("tallow/1 ")}"')), label


def test_plain_types_and_sizes_are_those_of_the_code() -> None:
    stated = {(row["body"], row["first byte"], row["size"]) for row in table("plain-types")}
    limits = tallow_protocol.limits
    assert stated == {
        ("signaling message (section 15)", "0x00", f"up to {tallow_net.limits.SIGNALING_FRAME_BYTES:,}"),
        ("Attach", f"0x{ATTACH_TYPE:02x}", str(limits.ATTACH_BYTES)),
        ("Ack", f"0x{ACK_TYPE:02x}", str(limits.ACK_BYTES)),
        ("Hello", f"0x{handshake.HELLO_TYPE:02x}", f"{limits.HELLO_BYTES:,}"),
        ("Reply", f"0x{handshake.REPLY_TYPE:02x}", f"{limits.REPLY_BYTES:,}"),
        ("Confirm", f"0x{handshake.CONFIRM_TYPE:02x}", str(limits.CONFIRM_BYTES)),
        ("Abort", f"0x{handshake.ABORT_TYPE:02x}", str(limits.ABORT_BYTES)),
    }


def test_padding_is_that_of_the_code() -> None:
    kinds = {"control with Auth": True, "control, any other": False, "chunk": False, "pack": False}
    for row in table("padding"):
        kind = records.RecordKind(int(row["type"]))
        unit = int(row["unit of padding"].replace(",", ""))
        assert records.padded_length(kind, 1, auth=kinds[row["record"]]) == unit


def test_capabilities_and_versions_are_those_of_the_code() -> None:
    assert f"Capability {version.CAP_FAST_AES} means fast AES" in TEXT
    assert f"from 0x{version.GREASE_FROM:04X}" in TEXT
    assert (signaling.SIGNALING_VERSION,) == version.SUPPORTED_VERSIONS == (1,)
