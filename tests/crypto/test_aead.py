import hmac
from contextlib import contextmanager

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.ciphers import aead as library
from hypothesis import given
from hypothesis import strategies as st
from tallow_crypto import (
    TAG_BYTES,
    AuthenticationError,
    InvalidKeyError,
    KeyExhaustedError,
    ProviderMissingError,
    RecordOpener,
    RecordSealer,
    Secret,
    Suite,
    aead,
)

_SECRET = Secret(bytes(range(64)))
_CIPHERS = {Suite.AES_256_GCM: library.AESGCM, Suite.CHACHA20_POLY1305: library.ChaCha20Poly1305}
_LIMIT = (4 << 20) + (8 << 10)

both_suites = pytest.mark.parametrize("suite", list(Suite))


def _pair(suite, shift=14):
    return RecordSealer(suite, _SECRET, epoch_shift=shift), RecordOpener(suite, _SECRET, epoch_shift=shift)


def _expand(secret, info, length):
    # One block of RFC 5869's Expand, written again on purpose: the test must not share the code under test.
    return hmac.digest(secret, info + b"\x01", "sha512")[:length]


@contextmanager
def _recording():
    """Give the list that the (key, nonce) of every seal goes to, in order."""
    used = []
    make_cipher = aead._make_cipher

    class Recorder:
        def __init__(self, suite, key):
            self._key = key.reveal()
            self._cipher = make_cipher(suite, key)

        def encrypt_into(self, nonce, data, associated_data, buffer):
            used.append((self._key, nonce))
            return self._cipher.encrypt_into(nonce, data, associated_data, buffer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aead, "_make_cipher", Recorder)
        yield used


@pytest.fixture
def used_nonces():
    with _recording() as used:
        yield used


def test_suites_have_their_wire_numbers():
    assert {suite.name: suite.value for suite in Suite} == {"AES_256_GCM": 1, "CHACHA20_POLY1305": 2}


@both_suites
def test_records_open_in_the_order_in_which_they_were_sealed(suite):
    sealer, opener = _pair(suite)

    sealed = [sealer.seal(b"record %d" % i, b"ad") for i in range(10)]

    assert [opener.open(record, b"ad") for record in sealed] == [b"record %d" % i for i in range(10)]
    assert sealer.records == opener.records == 10


@both_suites
@pytest.mark.parametrize("record", [0, 3, 4, 7, 8, 21])
def test_a_record_is_what_the_design_says(suite, record):
    sealer = RecordSealer(suite, _SECRET, epoch_shift=2)
    for _ in range(record):
        sealer.seal(b"", b"")
    secret = _SECRET.reveal()
    for _ in range(record >> 2):
        secret = _expand(secret, b"tallow/1 next", 64)
    iv = int.from_bytes(_expand(secret, b"tallow/1 iv", 12), "big")
    cipher = _CIPHERS[suite](_expand(secret, b"tallow/1 key", 32))

    expected = cipher.encrypt((iv ^ record).to_bytes(12, "big"), b"plaintext", b"\x00\x00\x01\x00")

    assert sealer.seal(b"plaintext", b"\x00\x00\x01\x00") == expected


@both_suites
def test_1000_records_at_shift_2_use_250_keys_and_no_key_and_nonce_twice(suite, used_nonces):
    sealer = RecordSealer(suite, _SECRET, epoch_shift=2)

    for _ in range(1000):
        sealer.seal(b"x", b"")

    assert len(used_nonces) == len(set(used_nonces)) == 1000
    assert len({key for key, _ in used_nonces}) == 250


@both_suites
def test_1000_records_at_shift_2_open(suite):
    sealer, opener = _pair(suite, 2)

    assert all(opener.open(sealer.seal(b"%d" % i, b""), b"") == b"%d" % i for i in range(1000))


def test_the_epoch_ends_after_16384_records(used_nonces):
    sealer = RecordSealer(Suite.AES_256_GCM, _SECRET)

    for _ in range(16385):
        sealer.seal(b"", b"")

    assert len({key for key, _ in used_nonces[:16384]}) == 1
    assert used_nonces[16384][0] != used_nonces[16383][0]


@given(
    st.lists(st.tuples(st.sampled_from(list(Suite)), st.integers(0, 5)), min_size=1, max_size=6), st.data()
)
def test_no_interleaving_of_connections_repeats_a_key_and_nonce(connections, data):
    with _recording() as used:
        sealers = [
            RecordSealer(suite, Secret(number.to_bytes(64, "big")), epoch_shift=shift)
            for number, (suite, shift) in enumerate(connections)
        ]
        order = data.draw(st.lists(st.sampled_from(sealers), max_size=100))
        for sealer in order:
            sealer.seal(b"", b"")

    assert len(set(used)) == len(used) == len(order)


@both_suites
@given(data=st.data())
def test_any_plaintext_comes_back_in_the_same_memory(suite, data):
    plaintext = data.draw(st.binary(max_size=2000))
    associated_data = data.draw(st.binary(max_size=40))
    sealer, opener = _pair(suite)
    memory = bytearray(plaintext + bytes(TAG_BYTES))

    sealer.seal_in_place(memoryview(memory), associated_data)
    view = opener.open_in_place(memoryview(memory), associated_data)

    assert view == plaintext
    assert view.obj is memory


@both_suites
def test_a_slice_of_a_larger_buffer_is_sealed_without_touching_the_rest(suite):
    sealer, opener = _pair(suite)
    memory = bytearray(b"head" + b"body" + bytes(TAG_BYTES) + b"tail")

    sealer.seal_in_place(memoryview(memory)[4:-4], memory[:4])
    assert memory[:4] == b"head"
    assert memory[-4:] == b"tail"
    assert opener.open_in_place(memoryview(memory)[4:-4], memoryview(memory)[:4]) == b"body"


@both_suites
@given(data=st.data())
def test_one_flipped_bit_anywhere_is_found(suite, data):
    sealer, opener = _pair(suite)
    record = bytearray(sealer.seal(data.draw(st.binary(max_size=100)), b"ad"))
    bit = data.draw(st.integers(0, len(record) * 8 - 1))
    record[bit // 8] ^= 1 << bit % 8

    with pytest.raises(AuthenticationError):
        opener.open(record, b"ad")


@both_suites
def test_other_associated_data_is_found(suite):
    sealer, opener = _pair(suite)

    with pytest.raises(AuthenticationError):
        opener.open(sealer.seal(b"x", b"ad"), b"da")


@both_suites
@pytest.mark.parametrize("attack", ["replay", "reorder", "drop", "other suite"])
def test_a_record_out_of_its_place_does_not_open(suite, attack):
    sealer, opener = _pair(suite)
    first, second = sealer.seal(b"first", b""), sealer.seal(b"second", b"")
    other = _pair(next(other for other in Suite if other is not suite))[0].seal(b"first", b"")
    before, attacked = {
        "replay": ([first], first),
        "reorder": ([], second),
        "drop": ([], second),
        "other suite": ([], other),
    }[attack]
    for record in before:
        opener.open(record, b"")

    with pytest.raises(AuthenticationError):
        opener.open(attacked, b"")


@both_suites
def test_a_failed_record_poisons_the_opener(suite):
    sealer, opener = _pair(suite)
    sealer.seal(b"lost", b"")
    genuine_next = sealer.seal(b"the next", b"")

    with pytest.raises(AuthenticationError):
        opener.open(bytes(20), b"")
    # Record 1 in the place of record 1: only the failure before it can be why it is refused.
    with pytest.raises(AuthenticationError):
        opener.open(genuine_next, b"")


@both_suites
def test_a_failed_record_leaves_zeros_and_no_unverified_plaintext(suite):
    sealer, opener = _pair(suite)
    memory = bytearray(sealer.seal(b"secret plaintext", b""))
    memory[-1] ^= 1

    with pytest.raises(AuthenticationError):
        opener.open_in_place(memoryview(memory), b"")

    assert memory == bytes(32)


@both_suites
@pytest.mark.parametrize("length", [0, 1, 15])
def test_a_record_shorter_than_its_tag_poisons_the_opener(suite, length):
    sealer, opener = _pair(suite)

    with pytest.raises(AuthenticationError):
        opener.open(bytes(length), b"")
    with pytest.raises(AuthenticationError):
        opener.open(sealer.seal(b"", b""), b"")


@both_suites
def test_an_empty_plaintext_is_sealed(suite):
    sealer, opener = _pair(suite)
    record = sealer.seal(b"", b"ad")

    assert len(record) == TAG_BYTES
    assert opener.open(record, b"ad") == b""


def test_the_longest_record_is_sealed_and_opened():
    sealer, opener = _pair(Suite.AES_256_GCM)
    memory = bytearray(_LIMIT)

    sealer.seal_in_place(memoryview(memory), b"")

    assert opener.open_in_place(memoryview(memory), b"") == bytes(_LIMIT - TAG_BYTES)


def test_a_record_one_byte_longer_is_refused():
    sealer, opener = _pair(Suite.AES_256_GCM)

    with pytest.raises(ValueError):
        sealer.seal_in_place(memoryview(bytearray(_LIMIT + 1)), b"")
    with pytest.raises(AuthenticationError):
        opener.open_in_place(memoryview(bytearray(_LIMIT + 1)), b"")


def test_a_buffer_without_room_for_the_tag_is_refused_and_no_record_counted():
    sealer = RecordSealer(Suite.AES_256_GCM, _SECRET)

    with pytest.raises(ValueError):
        sealer.seal_in_place(memoryview(bytearray(15)), b"")

    assert sealer.records == 0


@pytest.mark.parametrize(
    "buffer",
    [
        memoryview(bytes(32)),
        memoryview(bytearray(64))[::2],
        memoryview(bytearray(64)).cast("I"),
        memoryview(bytearray(64)).cast("B", (8, 8)),
    ],
    ids=["read-only", "strided", "integers", "two dimensions"],
)
def test_a_buffer_that_is_not_plain_writable_bytes_is_refused(buffer):
    sealer, opener = _pair(Suite.AES_256_GCM)

    with pytest.raises(ValueError):
        sealer.seal_in_place(buffer, b"")
    with pytest.raises(ValueError):
        opener.open_in_place(buffer, b"")

    assert sealer.records == opener.records == 0


def test_a_seal_that_fails_half_way_never_gives_its_nonce_to_another_record():
    sealer = RecordSealer(Suite.AES_256_GCM, _SECRET)
    undisturbed = RecordSealer(Suite.AES_256_GCM, _SECRET)
    undisturbed.seal(b"", b"")

    with pytest.raises(TypeError):
        sealer.seal(b"x", "not bytes")

    assert sealer.records == 1
    assert sealer.seal(b"x", b"") == undisturbed.seal(b"x", b"")


@both_suites
def test_the_last_counted_record_is_the_last(suite):
    sealer, opener = _pair(suite)
    for side in (sealer, opener):
        side._keys.records = 2**64 - 1
        side._keys._epoch = (2**64 - 1) >> 14
    last = sealer.seal(b"last", b"")

    assert opener.open(last, b"") == b"last"
    with pytest.raises(KeyExhaustedError):
        sealer.seal(b"", b"")
    with pytest.raises(KeyExhaustedError):
        opener.open(last, b"")


@pytest.mark.parametrize("make", [RecordSealer, RecordOpener])
@pytest.mark.parametrize("length", [0, 32, 63, 65])
def test_a_secret_of_another_length_is_refused(make, length):
    with pytest.raises(InvalidKeyError):
        make(Suite.AES_256_GCM, Secret(bytes(length)))


@pytest.mark.parametrize("make", [RecordSealer, RecordOpener])
@pytest.mark.parametrize("shift", [-1, 15])
def test_an_epoch_shift_outside_its_range_is_refused(make, shift):
    with pytest.raises(ValueError):
        make(Suite.AES_256_GCM, _SECRET, epoch_shift=shift)


def test_a_suite_that_is_none_is_refused():
    with pytest.raises(ValueError):
        RecordSealer(3, _SECRET)


def test_a_missing_suite_names_the_remedy(monkeypatch):
    def refuse(_key):
        raise UnsupportedAlgorithm("no chacha")

    monkeypatch.setattr(library, "ChaCha20Poly1305", refuse)

    with pytest.raises(ProviderMissingError, match="CHACHA20_POLY1305") as caught:
        RecordSealer(Suite.CHACHA20_POLY1305, _SECRET)
    assert caught.value.hints


def test_rfc_8439_section_2_8_2():
    key = bytes(range(0x80, 0xA0))
    plaintext = (
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
        b"sunscreen would be it."
    )
    sealer = RecordSealer(Suite.CHACHA20_POLY1305, _SECRET)
    sealer._keys._cipher = aead._make_cipher(Suite.CHACHA20_POLY1305, Secret(key))
    sealer._keys._iv = int.from_bytes(bytes.fromhex("070000004041424344454647"), "big")

    record = sealer.seal(plaintext, bytes.fromhex("50515253c0c1c2c3c4c5c6c7"))

    assert record.hex() == (
        "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d6"
        "3dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b36"
        "92ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc"
        "3ff4def08e4b7a9de576d26586cec64b6116"
        "1ae10b594f09e26a7e902ecbd0600691"
    )


def test_repr_shows_the_count_only():
    sealer, opener = _pair(Suite.AES_256_GCM)
    opener.open(sealer.seal(b"", b""), b"")

    assert repr(sealer) == "RecordSealer(1 records)"
    assert repr(opener) == "RecordOpener(1 records)"
