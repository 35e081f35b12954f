"""How the interpreter of a process with many threads collects garbage and switches threads."""

from __future__ import annotations

import gc
import sys

SWITCH_SECONDS = 0.001
"""How long a thread may keep the interpreter while others want it. A busy thread and the event loop take turns hundreds
of times a second; by default each might wait 5 ms for the other. Much less, and switching costs more."""
YOUNG_OBJECTS = 50_000
"""How many new objects start a collection. A batch or a large body makes many more than the default of 700 and few of
them in cycles. At twice as many more garbage lies about; at half, collections cost twice as much."""


ANSWERING_SWITCH_SECONDS = 0.0002
"""The same in a process that answers people and load balancers: a request changes threads a dozen times, and waits so
long each time for every thread that is busy with a large answer. Beside three of them `/readyz` took 43 ms of CPU with
1 ms, and 28 with this; what the busy threads did for their CPU was the same."""


def tune_interpreter(switch_seconds: float = SWITCH_SECONDS) -> None:
    """Spend less on garbage collection and less time on waiting for other threads. Call it once modules are loaded.

    What is loaded by then stays, so collections need not look at it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 50)
    sys.setswitchinterval(switch_seconds)
