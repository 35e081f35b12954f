"""For all tests: how long a property may take, and whom TLS trusts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.authority import Authority

# A property that takes long on a busy machine has not failed; pytest-timeout ends what hangs.
settings.register_profile("hookline", deadline=None)
settings.load_profile("hookline")


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
