from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallow_crypto.aead import Suite
from tallow_protocol.core.version import (
    CAP_FAST_AES,
    check_version,
    choose_suite,
    choose_version,
    own_capabilities,
    pack_capabilities,
    pack_versions,
    parse_capabilities,
    parse_versions,
)
from tallow_protocol.errors import HandshakeError, MisuseError, VersionError

numbers = st.integers(1, 0xFFFF)


@given(st.lists(numbers, min_size=1, max_size=4, unique=True))
def test_any_version_list_survives(versions):
    assert parse_versions(pack_versions(versions)) == tuple(versions)


@given(st.lists(numbers, max_size=16, unique=True))
def test_any_capability_list_survives(capabilities):
    assert parse_capabilities(pack_capabilities(capabilities)) == frozenset(capabilities)


@pytest.mark.parametrize("versions", [(), (1, 2, 3, 4, 5), (0,), (1, 1), (0x10000,)])
def test_a_version_list_that_does_not_fit_is_misuse(versions):
    with pytest.raises(MisuseError):
        pack_versions(versions)


def test_seventeen_capabilities_are_misuse():
    pack_capabilities(range(1, 17))
    with pytest.raises(MisuseError):
        pack_capabilities(range(1, 18))


@pytest.mark.parametrize(
    "data", ["0000000000000000", "0000000100000000", "0001000000020000", "0001000100000000"]
)
def test_a_version_list_with_a_gap_a_repeat_or_nothing_is_refused(data):
    with pytest.raises(HandshakeError):
        parse_versions(bytes.fromhex(data))


def test_no_capability_at_all_is_allowed():
    assert parse_capabilities(bytes(32)) == frozenset()


@given(st.sets(numbers, min_size=1, max_size=4), st.sets(numbers, min_size=1, max_size=4))
def test_the_highest_common_version_is_chosen_or_the_failure_is_said_in_words(offered, own):
    common = offered & own
    if common:
        assert choose_version(sorted(offered), sorted(own)) == max(common)
    else:
        with pytest.raises(VersionError, match="speaks protocol version"):
            choose_version(sorted(offered), sorted(own))


def test_the_side_to_update_is_named():
    with pytest.raises(VersionError) as caught:
        choose_version((2, 3), (1,))
    assert caught.value.hints == ("update Tallow on this side",)
    with pytest.raises(VersionError) as caught:
        choose_version((1,), (2,))
    assert caught.value.hints == ("update Tallow on the other side",)


def test_a_version_that_was_not_offered_is_refused():
    check_version(1, (2, 1))
    with pytest.raises(VersionError):
        check_version(3, (2, 1))


@pytest.mark.parametrize("grease", [0xEFFF, 0x10000, 0])
def test_the_random_capability_comes_from_its_own_range(grease):
    with pytest.raises(MisuseError):
        own_capabilities(fast_aes=True, grease=grease)


@pytest.mark.parametrize("grease", [0xF000, 0xFFFF])
def test_the_whole_range_of_random_capabilities_is_allowed(grease):
    assert own_capabilities(fast_aes=True, grease=grease) == (CAP_FAST_AES, grease)
    assert own_capabilities(fast_aes=False, grease=grease) == (grease,)


@given(st.frozensets(numbers), st.frozensets(numbers))
def test_unknown_capabilities_change_nothing(one, other):
    one, other = one - {CAP_FAST_AES}, other - {CAP_FAST_AES}
    assert choose_suite(one, other) is Suite.CHACHA20_POLY1305
    assert choose_suite(one | {CAP_FAST_AES}, other | {CAP_FAST_AES}) is Suite.AES_256_GCM
