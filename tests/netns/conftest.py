"""Every test here makes its own network."""

import pytest

from tests.netns.kit import skip_without_namespaces


def pytest_itemcollected(item: pytest.Item) -> None:
    item.add_marker("netns")


@pytest.fixture(autouse=True)
def _networks_can_be_made() -> None:
    skip_without_namespaces()
