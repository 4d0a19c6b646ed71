"""Run the build's processes, with their streams, terminal and signals, and own the private directory meanwhile.

- `child`: the build's processes, from their start to the end of the last one
- `signals`: the signals that are caught while secrets are exposed
- `streams`: output, through a filter
- `terminal`: a pseudo-terminal in place of the real one
- `directory`: the private directory
- `neighbours`: the builds that run at the same time
- `watchdog`: the process that cleans up when we are killed
"""

from typing import TYPE_CHECKING

from ..core.faces import make_face

if TYPE_CHECKING:
    from .child import Outcome as Outcome, find_program as find_program
    from .signals import SignalCatcher as SignalCatcher
    from .watchdog import Watchdog as Watchdog
else:
    __getattr__ = make_face(__name__, child="Outcome find_program", signals="SignalCatcher", watchdog="Watchdog")
