"""What a forked child forgets: threads, locks and sockets stay with its parent."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

_Owner = TypeVar("_Owner")
_forgetting: weakref.WeakKeyDictionary[Any, Callable[[Any], None]] = weakref.WeakKeyDictionary()


def after_fork_in_child(owner: _Owner, forget: Callable[[_Owner], None]) -> None:
    """Call `forget(owner)` in each child that this process forks, as long as somebody has the owner.

    Call it once for an owner, before other threads see it.
    """
    _forgetting[owner] = forget


def _forget() -> None:
    for owner, forget in list(_forgetting.items()):
        forget(owner)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
