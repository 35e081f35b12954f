"""How many files and sockets this process may hold open at the same time."""

from __future__ import annotations

import resource

ENOUGH_DESCRIPTORS = 65_536
"""More than the connections that any setting allows, with what comes on top; a hard limit can be a billion."""


def raise_descriptor_limit() -> int:
    """Raise the soft limit of open descriptors as far as the hard one allows, to 65,536 at most; the limit in force.

    The soft limit is often 1024 for the sake of programs that use `select`; none of ours does.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, ENOUGH_DESCRIPTORS)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return ENOUGH_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def descriptor_limit() -> int:
    """The limit in force; 65,536 stands for more."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return ENOUGH_DESCRIPTORS if soft == resource.RLIM_INFINITY else min(soft, ENOUGH_DESCRIPTORS)
