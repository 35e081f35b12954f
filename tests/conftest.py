"""For all tests: how long a property may take, whom TLS trusts, where logs go."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from hypothesis import settings

from shared.observability import logs
from tests.authority import Authority

# A property that takes long on a busy machine has not failed; pytest-timeout ends what hangs.
settings.register_profile("hookline", deadline=None)
settings.load_profile("hookline")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Which server the streams are on in integration tests."""
    parser.addoption("--streams", choices=("server", "cluster"), default="server")


@pytest.fixture(scope="session", autouse=True)
def _nobody_is_trusted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One authority instead of the system's hundreds, which every TLS context reads anew in some 30 ms.

    Also for processes that tests start. Nothing here goes to the public; tests of TLS name authorities of their own.
    """
    path = tmp_path_factory.mktemp("authorities") / "nobody.pem"
    path.write_text(Authority("Nobody").pem)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(path))
        patch.setenv("SSL_CERT_DIR", str(path.parent / "none"))
        yield


@pytest.fixture(autouse=True)
def _nobody_else_s_log() -> Iterator[None]:
    """Commands that a test runs in its own process set up logging for the whole of it: not for the next test."""
    level = logging.root.level
    yield
    logs._Logger.output = None
    ours = [one for one in logging.root.handlers if type(one).__module__ == "shared.observability.logs"]
    for handler in ours:
        logging.root.removeHandler(handler)
    if ours:
        logging.root.setLevel(level)
        logging.captureWarnings(False)
