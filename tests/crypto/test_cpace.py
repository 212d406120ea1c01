import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallow_crypto import CPace, InvalidKeyError, InvalidPointError, Secret, cpace, lv_cat, x25519


def _hex(value):
    return bytes.fromhex(value)


def _run(vectors, scalar):
    case = vectors["G_25519"]
    return CPace(Secret(_hex(case["PRS"])), _hex(case["CI"]), Secret(_hex(case[scalar])), _hex(case["sid"]))


def test_the_generator_string_and_its_hash_are_the_drafts(cpace_vectors):
    case, steps = cpace_vectors["G_25519"], cpace_vectors["G_25519_intermediate"]

    string = cpace.generator_string(_hex(case["PRS"]), _hex(case["CI"]), _hex(case["sid"]))

    assert string == _hex(steps["generator_string"])
    assert cpace.generator(_hex(case["PRS"]), _hex(case["CI"]), _hex(case["sid"])) == _hex(case["g"])
    assert cpace.elligator2(_hex(steps["generator_string_hash"])) == _hex(case["g"])


def test_both_shares_are_the_drafts(cpace_vectors):
    assert _run(cpace_vectors, "ya").share == _hex(cpace_vectors["G_25519"]["Ya"])
    assert _run(cpace_vectors, "yb").share == _hex(cpace_vectors["G_25519"]["Yb"])


def test_the_shared_point_is_the_drafts_from_either_side(cpace_vectors):
    case = cpace_vectors["G_25519"]

    assert x25519.multiply(Secret(_hex(case["ya"])), _hex(case["Yb"])).reveal() == _hex(case["K"])
    assert x25519.multiply(Secret(_hex(case["yb"])), _hex(case["Ya"])).reveal() == _hex(case["K"])


def test_both_sides_reach_the_drafts_session_key(cpace_vectors):
    case = cpace_vectors["G_25519"]
    ad_a, ad_b = _hex(case["ADa"]), _hex(case["ADb"])

    initiator = _run(cpace_vectors, "ya").isk_initiator(ad_a, _hex(case["Yb"]), ad_b)
    responder = _run(cpace_vectors, "yb").isk_responder(ad_b, _hex(case["Ya"]), ad_a)

    assert initiator.reveal() == _hex(case["ISK_IR"])
    assert responder.reveal() == _hex(case["ISK_IR"])


@pytest.mark.parametrize("index", range(9))
def test_elligator2_gives_the_published_point(cpace_vectors, index):
    case = cpace_vectors["elligator2"][index]

    assert cpace.elligator2(_hex(case["u"])) == _hex(case["x"])


def test_elligator2_ignores_bit_255(cpace_vectors):
    case = cpace_vectors["elligator2"][0]
    with_bit = bytearray(_hex(case["u"]))
    with_bit[31] |= 0x80

    assert cpace.elligator2(bytes(with_bit)) == _hex(case["x"])


@pytest.mark.parametrize("index", [6, 8, 9, 10, 11])
def test_a_point_that_the_draft_accepts_gives_its_result(cpace_vectors, index):
    table = cpace_vectors["scalar_mult_vfy"]
    point = table["points"][index]

    assert not point["abort"]
    assert x25519.multiply(Secret(_hex(table["s"])), _hex(point["u"])).reveal() == _hex(point["result"])


@pytest.mark.parametrize("index", [0, 1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize("role", ["isk_initiator", "isk_responder"])
def test_a_low_order_share_aborts_either_role(cpace_vectors, index, role):
    point = cpace_vectors["scalar_mult_vfy"]["points"][index]
    run = CPace(Secret(b"words"), b"ci", Secret(_hex(cpace_vectors["scalar_mult_vfy"]["s"])))

    assert point["abort"]
    with pytest.raises(InvalidPointError):
        getattr(run, role)(b"", _hex(point["u"]), b"")


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_share_of_another_length_aborts(length):
    run = CPace(Secret(b"words"), b"ci", Secret(bytes(range(32))))

    with pytest.raises(InvalidPointError):
        run.isk_initiator(b"", bytes(length), b"")
    with pytest.raises(InvalidPointError):
        run.isk_responder(b"", bytes(length), b"")


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_scalar_of_another_length_is_refused(length):
    with pytest.raises(InvalidKeyError):
        CPace(Secret(b"words"), b"ci", Secret(bytes(length)))


def test_string_functions_give_the_drafts_values(cpace_vectors):
    functions = cpace_vectors["string_functions"]

    assert lv_cat(b"") == _hex(functions["prepend_len"][0]["out"])
    assert lv_cat(b"1234") == _hex(functions["prepend_len"][1]["out"])
    assert lv_cat(bytes(range(127)))[:1] == _hex(functions["prepend_len"][2]["out_prefix"])
    assert len(lv_cat(bytes(range(127)))) == functions["prepend_len"][2]["out_len"]
    assert lv_cat(bytes(range(128)))[:2] == _hex(functions["prepend_len"][3]["out_prefix"])
    assert len(lv_cat(bytes(range(128)))) == functions["prepend_len"][3]["out_len"]
    case = functions["lv_cat"][0]
    assert lv_cat(*map(_hex, case["in"])) == _hex(case["out"])


@pytest.mark.parametrize("index", [0, 1])
def test_the_transcript_is_two_length_value_pairs(cpace_vectors, index):
    case = cpace_vectors["string_functions"]["transcript_ir"][index]
    share_a, ad_a, share_b, ad_b = map(_hex, case["in"])

    assert lv_cat(share_a, ad_a) + lv_cat(share_b, ad_b) == _hex(case["out"])


@given(st.lists(st.binary(max_size=300), max_size=4), st.lists(st.binary(max_size=300), max_size=4))
def test_lv_cat_never_maps_two_lists_to_one_string(first, second):
    assert (lv_cat(*first) == lv_cat(*second)) == (first == second)


_A, _B = Secret(b"\x11" * 32), Secret(b"\x22" * 32)
_MATCHING = {"password": b"words", "ci": b"ci", "ad_a": b"hello", "ad_b": b"core"}


@pytest.mark.parametrize("differing", ["password", "ci", "ad_a", "ad_b"])
def test_any_difference_between_the_sides_gives_other_keys(differing):
    other = _MATCHING | {differing: b"another"}
    a = CPace(Secret(_MATCHING["password"]), _MATCHING["ci"], _A)
    b = CPace(Secret(other["password"]), other["ci"], _B)

    key_a = a.isk_initiator(_MATCHING["ad_a"], b.share, _MATCHING["ad_b"])
    key_b = b.isk_responder(other["ad_b"], a.share, other["ad_a"])

    assert key_a != key_b


def test_two_initiators_do_not_agree():
    a, b = CPace(Secret(b"words"), b"ci", _A), CPace(Secret(b"words"), b"ci", _B)

    assert a.isk_initiator(b"", b.share, b"") != b.isk_initiator(b"", a.share, b"")


def test_a_reflected_share_gives_no_key_that_the_other_role_has():
    a = CPace(Secret(b"words"), b"ci", _A)

    assert a.isk_initiator(b"x", a.share, b"y") != a.isk_responder(b"x", a.share, b"y")


def test_repr_shows_nothing_of_a_run():
    assert repr(CPace(Secret(b"words"), b"ci", _A)) == "CPace()"
