"""Print what the cryptography costs here, and compare sealing and opening with the bare library call.

Run as `uv run python tests/benchmarks/bench_crypto.py`. It ends with code 1 where sealing or opening records of
1 MiB in place is slower than 0.8 of the same bytes through cryptography's encrypt_into and decrypt_into,
measured turn by turn in the same run.
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from tallow_crypto import (
    TAG_BYTES,
    CPace,
    HybridKem,
    IdentityKeyPair,
    KyberPyMlKem,
    RecordOpener,
    RecordSealer,
    Secret,
    Suite,
    chunk_digest,
    derive_key,
    hkdf_expand,
    passphrase_key,
)

MIB = 1 << 20
ROUNDS = 60
CALLS_A_ROUND = 20
LIMIT = 0.8
AD = bytes(4)
CIPHERS: dict[Suite, type[AESGCM] | type[ChaCha20Poly1305]] = {
    Suite.AES_256_GCM: AESGCM,
    Suite.CHACHA20_POLY1305: ChaCha20Poly1305,
}


class Case:
    """One way to do a thing again and again: `prepare` is not timed, `work` is."""

    def __init__(self, work: Callable[[], object], prepare: Callable[[], object] | None = None) -> None:
        self.work = work
        self.prepare = prepare

    def seconds(self, calls: int) -> float:
        """Return the time of one `work`, as the mean of `calls`."""
        total = 0.0
        for _ in range(calls):
            if self.prepare is not None:
                self.prepare()
            start = time.perf_counter()
            self.work()
            total += time.perf_counter() - start
        return total / calls


def nonces() -> Iterator[bytes]:
    """Give a new 12-byte nonce each time, for the bare calls."""
    return (number.to_bytes(12, "big") for number in count())


def sealing(suite: Suite, size: int) -> tuple[Case, Case]:
    """Return our in-place seal and the bare call, on buffers of their own."""
    ours, bare = (memoryview(bytearray(size + TAG_BYTES)) for _ in range(2))
    sealer = RecordSealer(suite, Secret(bytes(64)))
    cipher, fresh = CIPHERS[suite](bytes(32)), nonces()
    return (
        Case(lambda: sealer.seal_in_place(ours, AD)),
        Case(lambda: cipher.encrypt_into(next(fresh), bare[:size], AD, bare)),
    )


def opening(suite: Suite, size: int) -> tuple[Case, Case]:
    """Return our in-place open and the bare call; putting a record into the buffer is not timed."""
    sealer, opener = RecordSealer(suite, Secret(bytes(64))), RecordOpener(suite, Secret(bytes(64)))
    ours, bare = (memoryview(bytearray(size + TAG_BYTES)) for _ in range(2))
    cipher = CIPHERS[suite](bytes(32))
    fixed = cipher.encrypt(bytes(12), bytes(size), AD)
    nonce = bytes(12)

    def fill_ours() -> None:
        sealer.seal_in_place(ours, AD)

    def fill_bare() -> None:
        bare[:] = fixed

    return (
        Case(lambda: opener.open_in_place(ours, AD), fill_ours),
        Case(lambda: cipher.decrypt_into(nonce, bare, AD, bare[:size]), fill_bare),
    )


def compare(name: str, ours: Case, bare: Case, size: int) -> float:
    """Print both speeds and return ours over theirs, the median over rounds that alternate."""
    ours.seconds(CALLS_A_ROUND)
    bare.seconds(CALLS_A_ROUND)
    rounds = [(ours.seconds(CALLS_A_ROUND), bare.seconds(CALLS_A_ROUND)) for _ in range(ROUNDS)]
    ratio = statistics.median(theirs / our for our, theirs in rounds)
    speeds = [size / statistics.median(column) / 1e9 for column in zip(*rounds, strict=True)]
    print(f"  {name:<32} {speeds[0]:7.2f} GB/s   bare {speeds[1]:7.2f} GB/s   ratio {ratio:.2f}")
    return ratio


def table(rows: list[tuple[str, Callable[[], object], int]]) -> None:
    """Print the time of one call of each row."""
    for name, call, calls in rows:
        call()
        best = min(Case(call).seconds(calls) for _ in range(5))
        print(f"  {name:<32} {best * 1e6:12.1f} us")


def main() -> int:
    """Print the tables; return 1 where a ratio at 1 MiB is under the limit."""
    print("Records, in place, against the bare library call")
    ratios = []
    for suite in Suite:
        for size in (256, 64 << 10, MIB):
            unit = f"{size} B" if size < 1024 else f"{size >> 10} KiB"
            sealed = compare(f"seal {suite.name} {unit}", *sealing(suite, size), size)
            opened = compare(f"open {suite.name} {unit}", *opening(suite, size), size)
            if size == MIB:
                ratios += [sealed, opened]

    print("Hashing")
    chunk = bytes(MIB)
    for name, call in (
        ("chunk_digest 1 MiB", lambda: chunk_digest(chunk)),
        ("derive_key 1 MiB", lambda: derive_key("tallow/1 benchmark", chunk)),
    ):
        print(f"  {name:<32} {MIB / min(Case(call).seconds(20) for _ in range(5)) / 1e9:7.2f} GB/s")

    print("Handshake, identities, passphrase")
    kem, python_kem = HybridKem(), HybridKem(KyberPyMlKem())
    pair = kem.generate()
    sent = kem.encapsulate(pair.public_key)
    scalar, words, message = Secret(bytes(range(32))), Secret(b"words"), b"tallow/1 benchmark"
    run = CPace(words, b"ci", scalar)
    identity = IdentityKeyPair.generate()
    signature = identity.sign(message)
    table(
        [
            ("HybridKem.generate", kem.generate, 50),
            ("HybridKem.encapsulate", lambda: kem.encapsulate(pair.public_key), 50),
            ("HybridKeyPair.decapsulate", lambda: pair.decapsulate(sent.ciphertext), 50),
            ("HybridKem.encapsulate, kyber-py", lambda: python_kem.encapsulate(pair.public_key), 5),
            ("CPace, share", lambda: CPace(words, b"ci", scalar), 50),
            ("CPace.isk_initiator", lambda: run.isk_initiator(b"", run.share, b""), 50),
            ("hkdf_expand, 64 bytes", lambda: hkdf_expand(Secret(bytes(64)), b"info", 64), 500),
            ("IdentityKeyPair.sign", lambda: identity.sign(message), 20),
            ("IdentityPublicKey.verify", lambda: identity.public_key.verify(message, signature), 20),
            ("passphrase_key, defaults", lambda: passphrase_key(words, bytes(16)), 1),
        ]
    )

    lowest = min(ratios)
    print(f"Lowest ratio at 1 MiB: {lowest:.2f} (at least {LIMIT})")
    return 0 if lowest >= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
