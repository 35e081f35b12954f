"""What large answers took is given back."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
from dispatcher.server.memory import release_memory, return_large_blocks

def resident_mib():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024

return_large_blocks()
before, kept = resident_mib(), []
for _ in range(20):
    large = [bytes(17 << 20), ["x" * 50_000 for _ in range(100)]]
    large.append(large)  # only the collector frees it
    kept.append(bytes(2000))
    del large
    release_memory()
print(resident_mib() - before)
"""


def test_large_answers_leave_nothing_behind() -> None:
    ran = subprocess.run([sys.executable, "-c", SCRIPT], check=True, capture_output=True, text=True)
    assert float(ran.stdout) < 20, "one answer is larger"
