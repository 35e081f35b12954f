"""Which process of a distributed training this is."""

from __future__ import annotations

import os

_VARIABLES = ("RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID")
"""As torchrun, Open MPI, PMIx, MPICH and Slurm name the number of a process; the first that is set decides."""


def is_rank_zero() -> bool:
    """Whether this process speaks for the whole training: its number is 0, or it has none."""
    for name in _VARIABLES:
        value = os.environ.get(name, "").strip()
        if value.isdigit():
            return int(value) == 0
    # Launchers that number only the machines and the processes on each.
    return all(os.environ.get(name, "0").strip() in ("", "0") for name in ("LOCAL_RANK", "NODE_RANK", "GROUP_RANK"))
