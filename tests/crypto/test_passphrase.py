import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.kdf import argon2
from tallow_crypto import ProviderMissingError, Secret, passphrase_key

_SALT = b"\x02" * 16


def test_rfc_9106_section_5_3():
    # The RFC's case has a secret and associated data, which passphrase_key has not: the library is asked.
    kdf = argon2.Argon2id(
        salt=_SALT, length=32, iterations=3, lanes=4, memory_cost=32, secret=b"\x03" * 8, ad=b"\x04" * 12
    )

    assert (
        kdf.derive(b"\x01" * 32).hex() == "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659"
    )


@pytest.mark.parametrize(
    ("passphrase", "key"),
    [
        (b"", "0a34f1abde67086c82e785eaf17c68382259a264f4e61b91cd2763cb75ac189a"),
        (b"\x01" * 32, "03aab965c12001c9d7d0d2de33192c0494b684bb148196d73c1df1acaf6d0c2e"),
    ],
)
def test_the_same_case_without_them(passphrase, key):
    # OpenSSL's own vectors, evpkdf_argon2.txt.
    assert passphrase_key(Secret(passphrase), _SALT, memory_kib=32).reveal().hex() == key


def test_the_defaults_are_256_mib_3_passes_4_lanes():
    given = passphrase_key(Secret(b"pass"), _SALT)

    assert given == passphrase_key(Secret(b"pass"), _SALT, memory_kib=262144, passes=3, lanes=4)


@pytest.mark.parametrize(
    "changed", [{"memory_kib": 64}, {"passes": 4}, {"lanes": 2}], ids=["memory", "passes", "lanes"]
)
def test_each_cost_changes_the_key(changed):
    base = {"memory_kib": 32, "passes": 3, "lanes": 4}

    assert passphrase_key(Secret(b"p"), _SALT, **base) != passphrase_key(
        Secret(b"p"), _SALT, **(base | changed)
    )


def test_another_salt_gives_another_key():
    assert passphrase_key(Secret(b"p"), _SALT, memory_kib=32) != passphrase_key(
        Secret(b"p"), b"\x05" * 16, memory_kib=32
    )


def test_a_salt_of_15_bytes_is_refused():
    with pytest.raises(ValueError):
        passphrase_key(Secret(b"p"), bytes(15), memory_kib=32)


@pytest.mark.parametrize("cost", [{"memory_kib": 31}, {"passes": 0}, {"lanes": 0}])
def test_a_cost_out_of_range_is_refused(cost):
    with pytest.raises(ValueError):
        passphrase_key(Secret(b"p"), _SALT, **({"memory_kib": 32} | cost))


def test_without_argon2id_the_error_names_the_remedy(monkeypatch):
    def refuse(**_costs):
        raise UnsupportedAlgorithm("no argon2")

    monkeypatch.setattr(argon2, "Argon2id", refuse)

    with pytest.raises(ProviderMissingError, match="Argon2id") as caught:
        passphrase_key(Secret(b"p"), _SALT)
    assert caught.value.hints
