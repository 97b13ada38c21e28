"""Ctrl-C and SIGTERM wait for the end of the step, so that nothing is lost."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interruption:
    """Whether somebody asked to stop."""

    asked = False

    def note(self, signum: int, frame: FrameType | None) -> None:
        """Take the first signal; the second one does not wait."""
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


@contextmanager
def deferred_interrupts() -> Iterator[Interruption]:
    """Signals are noted instead of raised; outside the main thread they come as they are."""
    state = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield state
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in before:
            signal.signal(number, state.note)
        yield state
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
