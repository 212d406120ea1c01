"""A second receiver, written from docs/protocol.md alone.

Nothing here was taken from Tallow's code and no package of Tallow is imported: what this script does is what the
document says, section by section, so a sender that talks to it keeps the document. It is synchronous, takes one plain
TCP connection and mode 0, and knows no word list: words are taken whole, as the sender shows them.

    python independent_receiver.py HOST:PORT CODE OUTDIR [--no-fast-aes]

Exit code 0: everything is in place. 3: the sender ended the attempt or session. 4: it broke the protocol. 5: it is gone.
"""

import contextlib
import hashlib
import hmac
import os
import re
import secrets
import shutil
import socket
import struct
import sys
import time
import unicodedata
from pathlib import Path

import cbor2
import zstandard
from blake3 import blake3
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA87PrivateKey, MLDSA87PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM1024PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

# Sections 5, 19 and 20
PLAIN_LIMIT, SEALED_LIMIT = 4096, 4_202_496
REPLY_WAIT, SILENCE, PING_AFTER, CLOSE_WAIT = 10.0, 45.0, 15.0, 2.0
DONE_WAIT = 30.0  # the document allows leaving after 5 s; this one wants to see the acknowledgement on a busy machine too
CONTROL, CHUNK, PACK = 1, 2, 3
AUTH, OFFER, ACCEPT, REFUSE, FILE_DONE, MANIFEST, DONE, CANCEL, PING, RECEIVED = range(1, 11)
FILE, FOLDER, LINK = 0, 1, 2
PIECE = 65536
ABORTS = {
    1: "wrong_code",
    2: "in_use",
    3: "burned",
    4: "version",
    5: "cancelled",
    6: "violation",
    7: "internal",
}
CONFLICT, BAD_NAME, VIOLATION, INTEGRITY = 4, 7, 11, 12


class EndedError(Exception):
    """The sender ended the attempt or the session in words."""


class LostError(Exception):
    """The connection is gone, or silent for too long."""


class ViolationError(Exception):
    """The sender broke the protocol: the code goes into Cancel or Refuse."""

    def __init__(self, text, code=VIOLATION):
        super().__init__(text)
        self.code = code


def need(condition, text, code=VIOLATION):
    if not condition:
        raise ViolationError(text, code)


# ------------------------------------------------------------------------------------------------ section 3: notation


def lv(data):
    return struct.pack(">I", len(data)) + data


def lv_cat(*parts):
    out = bytearray()
    for part in parts:
        length = len(part)
        while length >= 0x80:
            out.append(length & 0x7F | 0x80)
            length >>= 7
        out.append(length)
        out += part
    return bytes(out)


def sha512(*parts):
    return hashlib.sha512(b"".join(parts)).digest()


def mac(key, *parts):
    return hmac.digest(key, b"".join(parts), "sha512")


def expand(key, info, length):
    out, block, number = b"", b"", 1
    while len(out) < length:
        block = mac(key, block, info, bytes([number]))
        out += block
        number += 1
    return out[:length]


def derive(context, material):
    return blake3(material, derive_key_context=context).digest()


def same(one, other):
    return hmac.compare_digest(one, other)


def check_item(item, depth=0):
    kind = type(item)
    need(depth < 8 or kind not in (list, dict), "CBOR is nested too deep")
    if kind is int:
        need(-(2**64) <= item < 2**64, "CBOR integer out of range")
    elif kind is list:
        for part in item:
            check_item(part, depth + 1)
    elif kind is dict:
        for key, value in item.items():
            need(type(key) is int and 0 <= key <= 23, "CBOR map key")
            check_item(value, depth + 1)
    else:
        need(item is None or kind in (bytes, str, bool), "CBOR type")


def strict_map(data, *kinds, optional=()):
    """Section 3.1: a map with exactly the keys 1, 2, ... of the given types."""
    try:
        item = cbor2.loads(data)
    except Exception as error:
        raise ViolationError("CBOR does not decode") from error
    need(type(item) is dict, "a message is a map")
    check_item(item)
    need(cbor2.dumps(item, canonical=True) == data, "CBOR is not in its deterministic form")
    wanted = set(range(1, len(kinds) + 1))
    need(wanted - set(optional) <= set(item) <= wanted, "keys of a message")
    for key, value in item.items():
        kind = kinds[key - 1]
        if isinstance(kind, int):
            need(type(value) is bytes and len(value) == kind, "size of a byte string")
        else:
            need(type(value) is kind and (kind is not int or 0 <= value < 2**63), "type of a value")
    return item


# ------------------------------------------------------------------------------------------------- sections 4 and 6


def parse_code(code):
    """The nameplate and PRS of a code."""
    match = re.fullmatch(
        r"([1-9][0-9]{0,11})(?:-([a-z]+(?:-[a-z]+){2,15})|:(.+))",
        unicodedata.normalize("NFC", code),
        re.DOTALL,
    )
    if match is None or (match[3] is not None and not 12 <= len(match[3]) <= 256):
        raise SystemExit("that is no code")
    nameplate, words, text = match.groups()
    return nameplate, (words or text).encode()


def elligator2(r):
    p, a = 2**255 - 19, 486662
    v = -a * pow(1 + 2 * r * r, p - 2, p) % p
    e = pow(v**3 + a * v * v + v, (p - 1) // 2, p)
    return (e * v - (1 - e) * a * pow(2, p - 2, p)) % p


def generator(prs, ci):
    dsi = b"CPace255"
    zpad = bytes(max(0, 127 - len(lv_cat(prs)) - len(lv_cat(dsi))))
    r = int.from_bytes(sha512(lv_cat(dsi, prs, zpad, ci, b""))[:32], "little") & (2**255 - 1)
    return elligator2(r).to_bytes(32, "little")


def x25519(scalar, point):
    try:
        return X25519PrivateKey.from_private_bytes(scalar).exchange(X25519PublicKey.from_public_bytes(point))
    except ValueError as error:
        raise ViolationError("an all-zero X25519 result") from error


def slots(data):
    numbers = [number for (number,) in struct.iter_unpack(">H", data)]
    used = [number for number in numbers if number]
    need(numbers == used + [0] * (len(numbers) - len(used)), "a zero slot before a used one")
    need(len(set(used)) == len(used), "a number stands twice")
    return used


class Keys:
    """Sections 6 and 7: B's half of the handshake, from Hello."""

    def __init__(self, hello, prs, room_id, *, fast_aes):
        need(len(hello) == 1738 and hello[0] == 0x10, "Hello of another size or type")
        versions, mode, theirs = slots(hello[1:9]), hello[9], slots(hello[10:42])
        need(versions and mode == 0, "Hello without a version, or of another mode")
        self.no_version = 1 not in versions
        if self.no_version:
            return
        nonce_a, share_a, ek_pq, ek_t = hello[42:74], hello[74:106], hello[106:1674], hello[1674:1706]
        self.sas_commit = hello[1706:]

        mine = ([1] if fast_aes else []) + [0xF000 + secrets.randbelow(0x1000)]
        self.suite = 1 if 1 in mine and 1 in theirs else 2
        ci = lv_cat(b"tallow/1", bytes([mode]), room_id, b"sender", b"receiver")
        g = generator(prs, ci)
        y, e, nonce_b = secrets.token_bytes(32), secrets.token_bytes(32), secrets.token_bytes(32)
        share_b, k = x25519(y, g), x25519(y, share_a)

        try:
            ss_pq, ct_pq = MLKEM1024PublicKey.from_public_bytes(ek_pq).encapsulate()
        except ValueError as error:
            raise ViolationError("an ML-KEM key out of range") from error
        ct_t, ss_t = x25519(e, (9).to_bytes(32, "little")), x25519(e, ek_t)
        hybrid = b"".join((ss_pq, ss_t, ct_pq, ct_t, ek_pq, ek_t, b"tallow/1 MLKEM1024-X25519"))
        hybrid_secret = hashlib.sha3_256(hybrid).digest()

        capabilities = struct.pack(">16H", *mine, *[0] * (16 - len(mine)))
        core = struct.pack(">HBB", 1, self.suite, 0) + capabilities + nonce_b + share_b + ct_pq + ct_t
        isk = sha512(lv_cat(b"CPace255_ISK", b"", k), lv_cat(share_a, hello), lv_cat(share_b, core))
        self.th = sha512(b"tallow/1 transcript", lv(ci), lv(hello), lv(core))
        self.prk = mac(b"tallow/1 handshake", isk, hybrid_secret)
        confirm_b = mac(self.k("confirm B"), self.th)
        self.confirm_a = mac(self.k("confirm A"), self.th, confirm_b)
        self.reply = b"\x11" + core + confirm_b
        self.nonces = nonce_a + nonce_b

    def k(self, label):
        return expand(self.prk, b"tallow/1 " + label.encode() + b"\0" + self.th, 64)

    def connection_secret(self, side):
        return expand(self.k("paths"), b"tallow/1 conn\0" + struct.pack(">I", 0) + side + self.nonces, 64)

    def sas(self, r_a):
        number = expand(self.prk, b"tallow/1 sas\0" + self.th + r_a, 8)
        return f"{int.from_bytes(number, 'big') % 10**8:08d}"


# ------------------------------------------------------------------------------------------- sections 5, 9.1 and 10


class Side:
    """The keys and the counter of one sending side of connection 0."""

    def __init__(self, secret, suite):
        self.secret, self.counter, self.aead = secret, 0, AESGCM if suite == 1 else ChaCha20Poly1305
        self.take_keys()

    def take_keys(self):
        self.cipher = self.aead(expand(self.secret, b"tallow/1 key", 32))
        self.iv = int.from_bytes(expand(self.secret, b"tallow/1 iv", 12), "big")

    def nonce(self):
        if self.counter and self.counter % 16384 == 0:
            self.secret = expand(self.secret, b"tallow/1 next", 64)
            self.take_keys()
        nonce = (self.iv ^ self.counter).to_bytes(12, "big")
        self.counter += 1
        return nonce

    def seal(self, plaintext, head):
        nonce = self.nonce()
        return self.cipher.encrypt(nonce, plaintext, head)

    def open(self, sealed, head):
        nonce = self.nonce()
        return self.cipher.decrypt(nonce, sealed, head)


class Wire:
    """Frames on the socket, plain first and sealed once there are keys."""

    def __init__(self, peer):
        host, _, port = peer.rpartition(":")
        self.socket = socket.create_connection((host.strip("[]"), int(port)), REPLY_WAIT)
        self.pending = bytearray()

    def send_plain(self, body):
        self.socket.settimeout(SILENCE)
        self.socket.sendall(lv(body))

    def take(self, count, wait, idle=None):
        end = time.monotonic() + wait
        while len(self.pending) < count:
            left = end - time.monotonic()
            if left <= 0:
                raise LostError("the sender is silent")
            self.socket.settimeout(min(left, PING_AFTER))
            try:
                part = self.socket.recv(1 << 18)
            except TimeoutError:
                if idle is not None:
                    idle()
                continue
            except OSError as error:
                raise LostError(str(error)) from error
            if not part:
                raise LostError("the sender closed the connection")
            self.pending += part
            if idle is not None:
                end = time.monotonic() + wait
        out = bytes(self.pending[:count])
        del self.pending[:count]
        return out

    def frame(self, limit, wait, idle=None):
        head = self.take(4, wait, idle)
        (length,) = struct.unpack(">I", head)
        need(0 < length <= limit, "length of a frame")
        return head, self.take(length, wait, idle)

    def plain(self):
        body = self.frame(PLAIN_LIMIT, REPLY_WAIT)[1]
        if body[0] == 0x13 and len(body) == 3:
            raise EndedError("abort: " + ABORTS.get(int.from_bytes(body[1:], "big"), "internal"))
        return body

    def close(self):
        """Section 17: finish, then read to the end or for 2 s."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)
            end = time.monotonic() + CLOSE_WAIT
            while (left := end - time.monotonic()) > 0:
                self.socket.settimeout(left)
                if not self.socket.recv(65536):
                    break
        self.socket.close()


class Records:
    """Section 10: sealed records in both directions, and the numbers of control messages."""

    def __init__(self, wire, keys):
        self.wire = wire
        self.theirs = Side(keys.connection_secret(b"A"), keys.suite)
        self.mine = Side(keys.connection_secret(b"B"), keys.suite)
        self.sent = self.acknowledged = self.heard = self.told = 0

    def send(self, kind, fields=None, *, numbered=True):
        """Send a message, or a bare acknowledgement where there is none."""
        body = b"" if kind is None else struct.pack(">H", kind) + cbor2.dumps(fields, canonical=True)
        self.sent += numbered
        plaintext = (
            struct.pack(">B3xIQQ8x", CONTROL, len(body), self.sent if numbered else 0, self.heard) + body
        )
        plaintext += bytes(-len(plaintext) % (8192 if kind == AUTH else 256))
        head = struct.pack(">I", len(plaintext) + 16)
        self.wire.socket.settimeout(SILENCE)
        self.wire.socket.sendall(head + self.mine.seal(plaintext, head))
        self.told = self.heard

    def acknowledge(self):
        if self.told != self.heard:
            self.send(None, numbered=False)

    def ping(self):
        self.send(PING, {}, numbered=False)

    def receive(self, wait=SILENCE):
        """Give the next record: (control, type, map) or (chunk or pack, header, body)."""
        while True:
            head, sealed = self.wire.frame(SEALED_LIMIT, wait, self.ping)
            try:
                plaintext = self.theirs.open(sealed, head)
            except (InvalidTag, ValueError) as error:
                raise LostError("a record does not open") from error
            kind, header, body = self.open(plaintext)
            if kind != CONTROL:
                return kind, header, body
            number, ack, zeros = struct.unpack_from(">QQQ", header, 8)
            need(header[1:4] == bytes(3) and zeros == 0, "reserved bytes of a control record")
            need(ack <= self.sent, "an acknowledgement of what was never sent")
            self.acknowledged = max(self.acknowledged, ack)
            if number == 0:
                need(not body or body == struct.pack(">H", PING) + b"\xa0", "number 0 on a numbered message")
                return CONTROL, None, b""
            need(len(body) >= 2, "a control message without a type")
            if number <= self.heard:
                self.send(None, numbered=False)
                continue
            need(number == self.heard + 1, "a message number is missing")
            self.heard = number
            return CONTROL, struct.unpack_from(">H", body)[0], body[2:]

    @staticmethod
    def open(plaintext):
        need(len(plaintext) >= 32, "a record without a header")
        header = plaintext[:32]
        kind, length = header[0], struct.unpack_from(">I", header, 4)[0]
        need(kind in (CONTROL, CHUNK, PACK) and 32 + length <= len(plaintext), "header of a record")
        body, unit = plaintext[32 : 32 + length], 4096
        if kind == CONTROL:
            need(length <= 1_052_672, "size of a control body")
            unit = 8192 if body[:2] == struct.pack(">H", AUTH) else 256
        need(len(plaintext) == -(-(32 + length) // unit) * unit, "padding of a record")
        need(not any(plaintext[32 + length :]), "a pad byte is not zero")
        return kind, header, body

    def next_message(self, *wanted):
        """Wait for one of these messages; nothing but acknowledgements and pings may come before it."""
        while True:
            kind, header, body = self.receive()
            need(kind == CONTROL, "data before the Accept")
            if header == CANCEL:
                raise EndedError(f"cancelled by the sender, code {strict_map(body, int)[1]}")
            if header is not None:
                need(header in wanted, "a message out of its place")
                return body


# ---------------------------------------------------------------------------------------------- section 12: identity


def fingerprint(ed, mldsa):
    return hashlib.sha256(b"tallow/1 identity" + ed + mldsa).digest()


class Identity:
    """A throwaway identity."""

    def __init__(self):
        self.ed, self.mldsa = Ed25519PrivateKey.generate(), MLDSA87PrivateKey.generate()
        self.publics = (self.ed.public_key().public_bytes_raw(), self.mldsa.public_key().public_bytes_raw())
        self.fingerprint = fingerprint(*self.publics)

    def auth(self, th):
        signed = b"tallow/1 auth\0B" + th + self.fingerprint + bytes(32)
        signatures = (self.ed.sign(signed), self.mldsa.sign(signed, b"tallow/1"))
        return {1: self.publics[0], 2: self.publics[1], 3: signatures[0], 4: signatures[1], 6: False}


class Sender:
    """What A's Auth said, verified."""

    def __init__(self, auth, keys):
        need(same(sha512(b"tallow/1 sas commit", auth[5])[:32], keys.sas_commit), "SAS commitment")
        self.ed, self.mldsa = auth[1], auth[2]
        self.fingerprint = fingerprint(self.ed, self.mldsa)
        self.verify(b"tallow/1 auth\0A" + keys.th + self.fingerprint + bytes(32), auth[3], auth[4], VIOLATION)
        self.sas = keys.sas(auth[5])

    def verify(self, signed, sig_ed, sig_mldsa, code=INTEGRITY):
        try:
            Ed25519PublicKey.from_public_bytes(self.ed).verify(sig_ed, signed)
            MLDSA87PublicKey.from_public_bytes(self.mldsa).verify(sig_mldsa, signed, b"tallow/1")
        except (InvalidSignature, ValueError) as error:
            raise ViolationError("a signature is wrong", code) from error


# -------------------------------------------------------------------------------------------- section 18: path rules

INVISIBLE = {0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180C, 0x180D, 0x180F, 0x3164, 0xFFA0}
JOINERS = "\u200c\u200d"
DEVICES = {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"}
DEVICES |= {name + digit for name in ("COM", "LPT") for digit in "0123456789¹²³"}


def plain_character(text, at):
    character, point = text[at], ord(text[at])
    if character in JOINERS:
        around = text[at - 1 : at] + text[at + 1 : at + 2]
        visible = [c for c in around if ord(c) > 127 and unicodedata.category(c)[0] in "LMNS"]
        return at > 0 and len(visible) == 2
    if character in "/\\:" or point in INVISIBLE or point & 0xFFFE == 0xFFFE or 0xFDD0 <= point <= 0xFDEF:
        return False
    return unicodedata.category(character) not in ("Cc", "Cf", "Co", "Cs", "Zl", "Zp")


def check_component(name):
    need(1 <= len(name.encode()) <= 255 and name not in (".", ".."), "a component", BAD_NAME)
    need(unicodedata.is_normalized("NFC", name) and name[-1] not in ". ", "form of a name", BAD_NAME)
    need(all(plain_character(name, at) for at in range(len(name))), "a character in a name", BAD_NAME)
    need(name.split(".")[0].rstrip(" ").upper() not in DEVICES, "a device name", BAD_NAME)


def folded(path):
    """Give the path as a file system sees it that ignores case and normal form."""
    parts = []
    for name in path.split("/"):
        key = unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())
        parts.append(key.translate({ord(joiner): None for joiner in JOINERS}))
    return tuple(parts)


def check_target(path, target):
    names = target.split("/")
    need(len(target.encode()) <= 4096 and len(names) <= 128, "a link's target", BAD_NAME)
    ups = 0
    while ups < len(names) and names[ups] == "..":
        ups += 1
    need(ups <= path.count("/") - 1, "a link out of its top-level folder", BAD_NAME)
    for name in names[ups:]:
        check_component(name)


def check_entry(entry):
    need(type(entry) is list and len(entry) == 6, "form of an entry")
    path, kind, size, mode, mtime, target = entry
    need(type(path) is str and type(kind) is int and kind in (FILE, FOLDER, LINK), "form of an entry")
    need(type(size) is int and 0 <= size < 2**63 if kind == FILE else size is None, "size of an entry")
    need(type(target) is str if kind == LINK else target is None, "target of an entry")
    need(type(mode) is int and 0 <= mode <= 0o777, "mode of an entry")
    need(type(mtime) is int and -(2**63) <= mtime < 2**63, "time of an entry")
    need(len(path.encode()) <= 4096 and path.count("/") < 64, "length of a path", BAD_NAME)
    for name in path.split("/"):
        check_component(name)
    if kind == LINK:
        check_target(path, target)


def check_offer(entries):
    need(len(entries) <= 262_144, "entries of an offer")
    seen, spelled = {}, {}
    for entry in entries:
        check_entry(entry)
        names, key = entry[0].split("/"), folded(entry[0])
        need(key not in seen, "two equal paths", BAD_NAME)
        seen[key] = entry[1]
        for depth in range(1, len(key) + 1):
            spelling = spelled.setdefault(key[:depth], names[:depth])
            need(spelling == names[:depth], "two spellings of one path", BAD_NAME)
    for key in seen:
        above = [seen.get(key[:depth], FOLDER) for depth in range(1, len(key))]
        need(all(kind == FOLDER for kind in above), "an entry below a file or link", BAD_NAME)


# ---------------------------------------------------------------------------------- section 13: files, chunks, packs


def unpacked(data, raw_length, *, compressed):
    """Give the raw bytes of a body: one zstd frame that states its size and needs a window of at most 8 MiB."""
    if compressed:
        try:
            about = zstandard.get_frame_parameters(data)
            fits = about.content_size == raw_length and about.window_size <= 8 << 20 and about.dict_id == 0
            need(fits, "header of a zstd frame")
            data = zstandard.ZstdDecompressor().decompress(data, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise ViolationError("a zstd frame does not decompress", INTEGRITY) from error
    need(len(data) == raw_length, "raw length")
    return data


def file_root(size, chunk_size, digests):
    return derive("tallow/1 file", struct.pack(">QI", size, chunk_size) + b"".join(digests))


class Incoming:
    """One file of the offer on its way to its place."""

    def __init__(self, entry, place, temporary):
        self.size, self.mode, self.mtime = entry[2], entry[3], entry[4]
        self.place, self.temporary = place, temporary
        self.log2, self.digests, self.end, self.root, self.packed = 0, {}, None, None, False

    def count(self):
        return -(-self.size // (1 << self.log2))

    def chunk(self, index, log2, digest, raw, *, last):
        need(16 <= log2 <= 22 and self.log2 in (0, log2) and not self.packed, "size of a chunk")
        self.log2 = log2
        need(index < self.count() and last == (index == self.count() - 1), "index of a chunk")
        need(len(raw) == min(1 << log2, self.size - (index << log2)), "length of a chunk")
        need(same(blake3(raw).digest(), digest), "digest of a chunk", INTEGRITY)
        if index in self.digests:
            return
        with self.temporary.open("r+b" if self.digests else "wb") as file:
            file.seek(index << log2)
            file.write(raw)
        self.digests[index] = digest
        self.release()

    def finished(self, message):
        need(self.end is None and not self.packed, "a FileDone out of its place")
        need(message[2] == self.size, "size in FileDone", INTEGRITY)
        self.end = message
        self.release()

    def release(self):
        """Give the file its name once it is whole and verified."""
        if self.end is not None and self.size == 0:
            self.log2 = 16
            self.temporary.touch()
        if self.end is None or not self.log2 or len(self.digests) < self.count():
            return
        root = file_root(self.size, 1 << self.log2, [self.digests[i] for i in range(self.count())])
        need(self.end[3] == self.count() and same(root, self.end[4]), "root of a file", INTEGRITY)
        self.put(root)

    def whole(self, data, root):
        need(len(data) == self.size and not self.log2 and self.end is None, "a packed file")
        digests = [blake3(data[at : at + PIECE]).digest() for at in range(0, self.size, PIECE)]
        need(same(file_root(self.size, PIECE, digests), root), "root of a packed file", INTEGRITY)
        if not self.packed:
            self.packed = True
            self.temporary.write_bytes(data)
            self.put(root)

    def put(self, root):
        self.place.parent.mkdir(parents=True, exist_ok=True)
        need(not os.path.lexists(self.place), "something has taken the file's name", CONFLICT)
        self.temporary.rename(self.place)
        self.place.chmod(self.mode)
        os.utime(self.place, ns=(self.mtime, self.mtime))
        self.root = root


class Transfer:
    """Section 14 from the Offer to Done."""

    def __init__(self, records, keys, sender, identity, out):
        self.records, self.keys, self.sender, self.identity, self.out = records, keys, sender, identity, out
        self.parts, self.entries, self.files, self.manifest = [], [], {}, None
        self.temporary = out / f".receiving-{secrets.token_hex(4)}"

    def run(self):
        self.take_offer()
        self.temporary.mkdir(parents=True)
        try:
            self.accept()
            while self.manifest is None or any(file.root is None for file in self.files.values()):
                self.step(*self.records.receive())
            self.check_manifest()
            self.finish_folders()
        finally:
            shutil.rmtree(self.temporary)
        return self.done()

    def take_offer(self):
        last = False
        while not last:
            raw = self.records.next_message(OFFER)
            need(len(raw) <= 1 << 20 and len(self.parts) < 256, "size of an offer")
            part = strict_map(raw, int, bool, list)
            need(part[1] == len(self.parts), "part of an offer")
            last = part[2]
            self.parts.append(raw)
            self.entries += part[3]
            self.records.acknowledge()
        try:
            check_offer(self.entries)
            names = {entry[0].split("/")[0] for entry in self.entries}
            need(not any(os.path.lexists(self.out / name) for name in names), "a name is taken", CONFLICT)
        except ViolationError as error:
            if error.code == VIOLATION:
                raise
            self.records.send(REFUSE, {1: error.code})
            raise EndedError(f"refused: {error}") from error

    def accept(self):
        """Accept everything but links, which this receiver does not make."""
        ranges = []
        for number, entry in enumerate(self.entries):
            if entry[1] == FILE:
                self.files[number] = Incoming(entry, self.out / entry[0], self.temporary / str(number))
            if entry[1] == LINK:
                continue
            if ranges and sum(ranges[-1]) == number:
                ranges[-1][1] += 1
            else:
                ranges.append([number, 1])
        everything = ranges == [[0, len(self.entries)]]
        self.records.send(ACCEPT, {1: None if everything else ranges})

    def step(self, kind, header, body):
        if kind == CHUNK:
            self.take_chunk(header, body)
        elif kind == PACK:
            self.take_pack(header, body)
        elif header == FILE_DONE:
            message = strict_map(body, int, int, int, 32)
            self.file(message[1]).finished(message)
        elif header == MANIFEST:
            need(self.manifest is None, "a second Manifest")
            self.manifest = strict_map(body, 32, 64, 4627)
        elif header == CANCEL:
            raise EndedError(f"cancelled by the sender, code {strict_map(body, int)[1]}")
        else:
            need(header is None, "a message out of its place")
        self.records.acknowledge()

    def file(self, number):
        need(number in self.files, "a file that was not accepted")
        return self.files[number]

    def take_chunk(self, header, body):
        _, flags, log2, zero, _, number, raw_length, index, zeros = struct.unpack(">BBBBIIIQQ", header)
        need(flags & ~3 == 0 and zero == 0 and zeros == 0, "header of a chunk")
        need(len(body) > 32 and 1 <= raw_length <= 1 << 22, "body of a chunk")
        raw = unpacked(body[32:], raw_length, compressed=flags & 1)
        self.file(number).chunk(index, log2, body[:32], raw, last=bool(flags & 2))
        self.records.send(RECEIVED, {1: [[number, index, 1]]}, numbered=False)

    def take_pack(self, header, body):
        _, flags, zeros, _, count, raw_length, more = struct.unpack(">BBHIII16s", header)
        need(flags & ~1 == 0 and zeros == 0 and not any(more), "header of a pack")
        need(count > 0 and raw_length <= 4 << 20, "size of a pack")
        raw, at, ranges = unpacked(body, raw_length, compressed=flags & 1), 0, []
        for _ in range(count):
            need(at + 40 <= len(raw), "a pack is too short")
            number, length, root = struct.unpack_from(">II32s", raw, at)
            at += 40 + length
            need(at <= len(raw), "a pack is too short")
            self.file(number).whole(raw[at - length : at], root)
            ranges.append([number, 0, 1])
        need(at == len(raw), "a pack is too long")
        for start in range(0, len(ranges), 256):
            self.records.send(RECEIVED, {1: ranges[start : start + 256]}, numbered=False)

    def check_manifest(self):
        roots = [self.files[n].root if n in self.files else bytes(32) for n in range(len(self.entries))]
        digest = derive("tallow/1 manifest", b"".join([lv(part) for part in self.parts] + roots))
        need(same(digest, self.manifest[1]), "digest of the manifest", INTEGRITY)
        signed = (
            b"tallow/1 manifest\0"
            + self.keys.th
            + self.sender.fingerprint
            + self.identity.fingerprint
            + digest
        )
        self.sender.verify(signed, self.manifest[2], self.manifest[3])

    def finish_folders(self):
        folders = [entry for entry in self.entries if entry[1] == FOLDER]
        for path, *_ in folders:
            (self.out / path).mkdir(parents=True, exist_ok=True)
        for path, _, _, mode, mtime, _ in sorted(folders, key=lambda entry: -entry[0].count("/")):
            os.utime(self.out / path, ns=(mtime, mtime))
            (self.out / path).chmod(mode)

    def done(self):
        count, size = len(self.files), sum(file.size for file in self.files.values())
        self.records.send(DONE, {1: count, 2: size})
        end = time.monotonic() + DONE_WAIT
        while self.records.acknowledged < self.records.sent:
            kind, header, body = self.records.receive(max(0.1, end - time.monotonic()))
            if kind == CONTROL and header == CANCEL:
                raise EndedError(f"cancelled by the sender, code {strict_map(body, int)[1]}")
        return count, size


def attempt(wire, code, out, *, fast_aes):
    nameplate, prs = parse_code(code)
    room_id = derive("tallow/1 room", nameplate.encode())
    wire.send_plain(struct.pack(">H", 2) + cbor2.dumps({1: 1, 2: room_id, 3: 1}, canonical=True))
    try:
        keys = Keys(wire.plain(), prs, room_id, fast_aes=fast_aes)
    except ViolationError:
        wire.send_plain(b"\x13" + struct.pack(">H", 6))
        raise
    if keys.no_version:
        wire.send_plain(b"\x13" + struct.pack(">H", 4))
        raise ViolationError("no version in common")
    wire.send_plain(keys.reply)
    confirm = wire.plain()
    need(len(confirm) == 65 and confirm[0] == 0x12 and same(confirm[1:], keys.confirm_a), "Confirm")

    records, identity = Records(wire, keys), Identity()
    try:
        records.send(AUTH, identity.auth(keys.th))
        auth = strict_map(records.next_message(AUTH), 32, 2592, 64, 4627, 32, bool)
        sender = Sender(auth, keys)
        print(f"suite {keys.suite}, fingerprint {sender.fingerprint.hex()}, digits {sender.sas}")
        count, size = Transfer(records, keys, sender, identity, out).run()
    except ViolationError as error:
        with contextlib.suppress(OSError):
            records.send(CANCEL, {1: error.code})
        raise
    print(f"received {count} files, {size} bytes")


def main():
    arguments = [argument for argument in sys.argv[1:] if argument != "--no-fast-aes"]
    if len(arguments) != 3:
        raise SystemExit(__doc__)
    peer, code, out = arguments
    wire = Wire(peer)
    failed = None
    try:
        attempt(wire, code, Path(out), fast_aes=len(arguments) == len(sys.argv) - 1)
    except EndedError as error:
        failed = (3, error)
    except ViolationError as error:
        failed = (4, error)
    except (LostError, OSError) as error:
        failed = (5, error)
    wire.close()
    if failed is not None:
        print(failed[1], file=sys.stderr)
        raise SystemExit(failed[0])


if __name__ == "__main__":
    main()
