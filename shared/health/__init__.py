"""The health of an installation: what its processes run on, which of them are alive, and all checks in one answer."""
