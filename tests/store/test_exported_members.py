import pytest
import tallow_store
from tallow_store import StoreError, errors


def test_exported_members():
    assert tallow_store.__all__ == [
        "SCHEMA_VERSION",
        "Config",
        "ConfigError",
        "Database",
        "DatabaseBusyError",
        "DatabaseDamagedError",
        "DatabaseError",
        "DatabaseFullError",
        "KeyFileError",
        "KnownRelay",
        "KnownRelayStore",
        "LocationError",
        "Locations",
        "MisuseError",
        "NewerSchemaError",
        "PartialPlace",
        "PartialPlaceStore",
        "RelayPinError",
        "SealError",
        "SealedBox",
        "SourceDigestStore",
        "StoreError",
        "load_config",
        "load_key",
        "load_or_create_identity",
        "load_or_create_key",
        "save_config",
    ]


@pytest.mark.parametrize("name", tallow_store.__all__)
def test_every_exported_name_exists(name):
    assert hasattr(tallow_store, name)


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_has_a_code_a_sentence_and_hints(name):
    raised = getattr(errors, name)("what happened", hints=("what to do",))
    assert isinstance(raised, StoreError)
    assert raised.code.replace("_", "").isalpha()
    assert raised.hints == ("what to do",)
    assert isinstance(raised.retryable, bool)
    assert str(raised) == "what happened"


def test_every_error_has_a_code_of_its_own():
    codes = [getattr(errors, name).code for name in errors.__all__]
    assert len(set(codes)) == len(codes)
