"""How much a drain claims next, by what it has claimed, sent and heard. Pure: no I/O, no clock, no threads."""

from __future__ import annotations

from dataclasses import dataclass, replace

from worker.delivery.in_flight import PREFETCH_FACTOR

INITIAL_CLAIM_SIZE = 16
"""How much a drain claims at first.

Mostly little is due, and slots for more are held while the database is asked. Thirty-two drains that begin at the same
time hold 512 of a process's 1,000 slots; at twice as much some would find none and wait for the next sweep, as they did
when it was 128. At half of it, some dozens that are due take one claim more.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimBudget:
    """What a drain may still claim. Each event in a drain's life gives the next budget; none changes one.

    Invariant: `0 <= in_flight <= limit` as long as no more is claimed than `next_claim` says. `limit` may fall below
    what is in flight as prefetching ends; then nothing is claimed until half of the new limit is free.
    """

    max_in_flight: int
    """Requests to this webhook at a time, from this process."""
    full_claim_size: int
    """What is claimed at a time once there proved to be enough."""
    in_flight: int = 0
    """Claimed, and not yet recorded or released."""
    claim_size: int = INITIAL_CLAIM_SIZE
    prefetch: bool = False
    """Whether more may be claimed than is sent at a time."""
    small_payloads: bool = True
    """Whether the last claim's payloads were small enough to prefetch more such."""
    exhausted: bool = False
    """Whether the last claim found less than it asked for: there was nothing more due."""
    blocked: bool = False
    """Whether what is due has to wait: for a limit, for the circuit, or for a slot among those in flight."""

    @property
    def limit(self) -> int:
        """How much may be claimed and unrecorded at a time."""
        return self.max_in_flight * (PREFETCH_FACTOR if self.prefetch else 1)

    @property
    def is_saturated(self) -> bool:
        """Whether as much is in flight as may be sent at a time."""
        return self.in_flight >= self.max_in_flight

    def next_claim(self) -> int:
        """How much to claim now; 0 for nothing.

        Half of the limit must be free: claiming for each result anew would be many small transactions.
        """
        if self.exhausted or self.blocked or self.in_flight * 2 > self.limit:
            return 0
        return min(self.limit - self.in_flight, self.claim_size)

    def after_refusal(self) -> ClaimBudget:
        """No slot was free for this webhook."""
        return replace(self, blocked=True)

    def after_claim(self, *, asked: int, claimed: int, limited: bool, small_payloads: bool) -> ClaimBudget:
        """A claim was made.

        Args:
            asked: how many were asked for.
            claimed: how many there were.
            limited: whether the webhook's limits or its circuit let fewer be claimed.
            small_payloads: whether the payloads of those claimed are small on average.
        """
        return replace(
            self,
            in_flight=self.in_flight + claimed,
            claim_size=self.full_claim_size if claimed == asked else self.claim_size,
            small_payloads=small_payloads,
            exhausted=claimed < asked and not limited,
            blocked=limited,
        )

    def after_results(self, count: int) -> ClaimBudget:
        """So many attempts have ended and their slots are released, whether they could be recorded or not."""
        return replace(self, in_flight=self.in_flight - count)

    def after_recording(self, *, may_prefetch: bool, blocked: bool) -> ClaimBudget:
        """What the results say of the webhook is known. Slots are free again, so what held it up may be over.

        Args:
            may_prefetch: whether the endpoint is healthy and nothing limits it. It answered within a drain's patience,
                so what waits in this process for its turn will not wait for long.
            blocked: whether its circuit is open or it is disabled.
        """
        return replace(self, exhausted=False, prefetch=may_prefetch and self.small_payloads, blocked=blocked)
