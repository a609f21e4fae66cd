"""Whether the terminal that a process was started from is still there: its end and new settings have one signal."""

from __future__ import annotations

import os
import signal

__all__ = ["Terminal"]


class Terminal:
    """The terminal as it is now, unless the process was told to outlive it (``nohup``) or never had one."""

    def __init__(self) -> None:
        outlives_it = not hasattr(signal, "SIGHUP") or signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        self._was_there = not outlives_it and _is_there()

    @property
    def has_closed(self) -> bool:
        """Whether it was there and is not any more."""
        return self._was_there and not _is_there()


def _is_there() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
