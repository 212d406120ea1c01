import pytest
from tallow_store import Database, Locations


@pytest.fixture
def locations(tmp_path):
    home = tmp_path / "home"
    return Locations(home, home, home)


@pytest.fixture
def database(locations):
    with Database.open(locations.database_file) as opened:
        yield opened
