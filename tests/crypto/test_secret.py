import copy
import pickle
import traceback

import pytest
from tallow_crypto import Secret, equal

_WORD = b"copper-lantern-tidy"


@pytest.mark.parametrize("show", [repr, str, "{}".format, "{!r}".format, "%s".__mod__, ascii])
def test_it_shows_only_its_length(show):
    assert show(Secret(_WORD)) == "Secret(19 bytes)"


def test_reveal_gives_the_bytes():
    assert Secret(_WORD).reveal() == _WORD
    assert len(Secret(_WORD)) == 19


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview, lambda data: memoryview(bytearray(data))])
def test_it_copies_whatever_buffer_it_is_given(make):
    assert Secret(make(_WORD)).reveal() == _WORD


def test_it_does_not_follow_a_buffer_that_changes_later():
    buffer = bytearray(_WORD)
    secret = Secret(buffer)

    buffer[0] = 0

    assert secret.reveal() == _WORD


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_is_not_pickled(protocol):
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(Secret(_WORD), protocol)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda secret: copy.deepcopy([secret])])
def test_it_is_not_copied(duplicate):
    with pytest.raises(TypeError, match="copied"):
        duplicate(Secret(_WORD))


def test_it_is_not_hashable():
    with pytest.raises(TypeError, match="hashable"):
        hash(Secret(_WORD))
    with pytest.raises(TypeError):
        {Secret(_WORD)}


def test_equal_content_makes_equal_secrets():
    assert Secret(_WORD) == Secret(bytearray(_WORD))
    assert Secret(_WORD) != Secret(_WORD[:-1])
    assert Secret(_WORD) != Secret(b"x" + _WORD[1:])


@pytest.mark.parametrize("other", [_WORD, _WORD.decode(), None, 24])
def test_it_equals_nothing_that_is_not_a_secret(other):
    assert Secret(_WORD) != other


def test_an_empty_secret_is_true_like_any_other():
    assert Secret(b"")
    assert len(Secret(b"")) == 0


def test_it_has_no_attributes_to_look_into():
    with pytest.raises(TypeError):
        vars(Secret(_WORD))
    with pytest.raises(TypeError):
        bytes(Secret(_WORD))


def test_a_traceback_with_locals_holds_no_byte_of_it():
    secret = Secret(_WORD)
    try:
        secret.missing  # noqa: B018  # the access is the point
    except AttributeError as error:
        shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())

    assert "Secret(19 bytes)" in shown
    assert "Secret(b" not in shown


def test_equal_compares_public_values_of_any_buffer_type():
    assert equal(b"abc", bytearray(b"abc"))
    assert equal(memoryview(b"abc"), b"abc")
    assert not equal(b"abc", b"abd")
    assert not equal(b"abc", b"ab")
