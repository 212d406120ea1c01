import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st
from tallow_crypto import DIGEST_BYTES, DerivedHasher, FileRoot, chunk_digest, derive_key, file_root


def _input(length):
    return bytes(i % 251 for i in range(length))


@pytest.mark.parametrize("index", range(35))
def test_blake3s_own_vectors(blake3_vectors, index):
    case = blake3_vectors["cases"][index]
    data = _input(case["input_len"])
    context = blake3_vectors["context_string"]
    whole = bytes.fromhex(case["derive_key"])

    assert chunk_digest(data).hex() == case["hash"][:64]
    assert derive_key(context, data) == whole[:32]
    assert derive_key(context, data, len(whole)) == whole


@given(st.binary(max_size=5000), st.integers(0, 5000))
def test_a_stream_may_be_cut_anywhere(data, cut):
    hasher = DerivedHasher("tallow/1 testing")
    hasher.update(data[:cut])
    hasher.update(memoryview(data)[cut:])

    assert hasher.digest() == derive_key("tallow/1 testing", data)


def test_a_digest_may_be_taken_before_the_end():
    hasher = DerivedHasher("tallow/1 testing")
    hasher.update(b"ab")
    early = hasher.digest()
    hasher.update(b"c")

    assert early == derive_key("tallow/1 testing", b"ab")
    assert hasher.digest(64) == derive_key("tallow/1 testing", b"abc", 64)


def test_two_contexts_never_meet():
    assert derive_key("tallow/1 room", b"4821") != derive_key("tallow/1 lan", b"4821")
    assert derive_key("tallow/1 room", b"4821") != chunk_digest(b"4821")


@pytest.mark.parametrize("length", [0, -1])
def test_an_output_has_at_least_one_byte(length):
    with pytest.raises(ValueError):
        derive_key("tallow/1 testing", b"", length)


def test_a_root_is_size_chunk_size_and_digests_under_the_file_context():
    digests = [chunk_digest(b"a" * 65536), chunk_digest(b"b")]

    expected = blake3(
        (65537).to_bytes(8, "big") + (65536).to_bytes(4, "big") + b"".join(digests),
        derive_key_context="tallow/1 file",
    ).digest()
    assert file_root(65537, 65536, digests) == expected


def test_a_root_grows_digest_by_digest():
    digests = [chunk_digest(bytes((i,))) for i in range(5)]
    root = FileRoot(5, 1)
    for digest in digests:
        root.update(digest)

    assert root.digest() == file_root(5, 1, digests)
    assert root.digest() != file_root(5, 1, digests[:4])


def test_files_of_different_shape_have_different_roots():
    shapes = [(0, 65536), (1, 65536), (0, 65537), (65536, 1)]

    assert len({file_root(size, chunk, []) for size, chunk in shapes}) == 4


def test_the_order_of_digests_counts():
    a, b = chunk_digest(b"a"), chunk_digest(b"b")

    assert file_root(2, 1, [a, b]) != file_root(2, 1, [b, a])


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_digest_of_another_length_is_refused(length):
    with pytest.raises(ValueError):
        FileRoot(1, 1).update(bytes(length))


@pytest.mark.parametrize(("size", "chunk_size"), [(-1, 1), (1 << 64, 1), (1, 0), (1, 1 << 32)])
def test_a_shape_just_outside_its_fields_is_refused(size, chunk_size):
    with pytest.raises(ValueError):
        FileRoot(size, chunk_size)


@pytest.mark.parametrize(("size", "chunk_size"), [(0, 1), ((1 << 64) - 1, (1 << 32) - 1)])
def test_a_shape_just_inside_its_fields_is_taken(size, chunk_size):
    assert len(FileRoot(size, chunk_size).digest()) == DIGEST_BYTES


def test_digests_of_other_lengths_make_no_root_even_where_their_sum_fits() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        file_root(5, 1, [bytes(16), bytes(48)])
