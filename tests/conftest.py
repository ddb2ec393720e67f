"""Every test's event loop is uvloop's, as the server's is."""

from collections.abc import Callable, Iterator, Mapping

import pytest
import uvloop
from hypothesis import settings

from lightning_proxy.transport.frame import kernel_name, kernel_names, use_kernel

settings.register_profile("fast", max_examples=60, deadline=None)
settings.register_profile("soak", max_examples=5000, deadline=None)
settings.load_profile("fast")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="models: all that takes minutes, too")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("soak"):
        settings.load_profile("soak")


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], uvloop.Loop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(params=kernel_names(), scope="module")
def each_kernel(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs a test once by every kernel that this CPU has."""
    before = kernel_name()
    use_kernel(request.param)
    yield request.param
    use_kernel(before)
