"""How the interpreter of a worker process goes about garbage and threads."""

from __future__ import annotations

import gc
import sys

SWITCH_SECONDS = 0.001
YOUNG_OBJECTS = 50_000


def tune_interpreter() -> None:
    """Spend less on garbage collection and less time on waiting for other threads. Call it once modules are loaded.

    What is loaded by then stays, so collections need not look at it; and a batch makes many more objects than the usual
    threshold of 700. A drain's thread and the event loop take turns hundreds of times a second: by default each might
    wait 5 ms for the other.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 50)
    sys.setswitchinterval(SWITCH_SECONDS)
