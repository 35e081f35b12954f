"""For all tests: a property that takes long on a busy machine has not failed; pytest-timeout ends what hangs."""

from hypothesis import settings

settings.register_profile("hookline", deadline=None)
settings.load_profile("hookline")
