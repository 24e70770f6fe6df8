"""Whether more threads pay: what calls of about one size take on one thread, beside all of them.

Where other work takes the CPUs, a thread waits for one that has not been given a CPU yet, and a
call of 0.2 ms takes 16.  So calls are timed, and where threads did not pay, the next calls run on
one: the longer, the more the trial has cost, so that trials take no more than 1 in ``SHARE`` of the
time.  What one thread takes is measured anew from time to time.
"""

from __future__ import annotations

# Larger calls take longer than a time slice of the scheduler, and share its CPUs as one thread
# would: they aren't measured.
LARGEST = 1 << 24

# Calls that are timed on one thread before threads are judged; and of so many calls one, later.
LEARNT, EVERY = 2, 128

# So many calls before threads are tried again, one is timed: other work may have come or gone.
TIMED = 8

# What threads cost more than one is made up for by so many times that time on one thread, in calls
# that are no fewer and no more than these.  At first it is less: threads that had to be woken are
# slow for a few calls.
SHARE, AT_FIRST, SHORTEST, LONGEST = 96, 8, 8, 1 << 14

# Slow calls are made up for by what threads gained before, up to what so many calls on one thread
# take: more would hide for long that other work has come.
CREDIT = 8


class Pace:
    """What has been seen of one loop at sizes between two powers of two, in seconds an element."""

    def __init__(self) -> None:
        self.alone = float("inf")
        # What threads cost more than one, less than 0 while they pay, and the worst call's part of
        # that, without what others had made up for.
        self._lost = self._worst = 0.0
        self._doubted = False
        self._learnt = 0
        self.pause = 0  # calls on one thread until threads are tried again
        # Calls on threads until one thread is timed. The first call of all warms the caches, and is
        # not what one thread would be measured by.
        self._left = 1

    def pays(self) -> bool:
        """Tell whether the next call is to run on threads."""
        if self.pause > 0:
            self.pause -= 1
            return False
        return self._left > 0

    def took_alone(self, pace: float) -> None:
        """Learn from a call on one thread: a moving mean in which one slow call counts little."""
        if self._learnt < LEARNT:
            self.alone = min(self.alone, pace)
        else:
            self.alone += (min(pace, 2 * self.alone) - self.alone) / 8
        self._learnt += 1
        if self._left == 0 and self._learnt >= LEARNT:
            self._left = EVERY - 1
            self._doubted = False

    def took_threads(self, pace: float) -> None:
        """Judge a call on threads.

        They don't pay where they took longer than one with the worst call left out, as that may
        have met a moment when the CPU was elsewhere, or threads that had to be woken, as those
        have to be after a pause.
        """
        self._left -= 1
        if self._learnt == 0:
            return
        more = pace - self.alone
        self._lost += more
        if self._lost <= 0:
            self._lost = max(self._lost, -CREDIT * self.alone)
            self._worst = 0.0
            return
        self._worst = max(self._worst, min(more, self._lost))
        if self._lost > self._worst:
            share = SHARE if self._doubted else AT_FIRST
            self.pause = int(min(max(share * self._lost / self.alone, SHORTEST), LONGEST))
            self._lost = self._worst = 0.0
            self._doubted = True
