"""A program with all of process.py and streams.py, and the simplest of maskers: it shows what passed through it."""

from __future__ import annotations

WRAPPER = """
import os, sys
from ic_secrets.process.child import Child, find_program
from ic_secrets.process.signals import SignalCatcher
from ic_secrets.process.streams import open_channels

class Upper:
    def feed(self, data): return data.upper()
    def flush_idle(self): return b""
    def close(self): return b"!"

with SignalCatcher() as signals:
    grace, background, *command = sys.argv[1:]
    child = Child(command, find_program(command[0], os.environ), dict(os.environ), signals, open_channels())
    print(child.pid, file=open(os.environ["PID_FILE"], "w"), flush=True)
    outcome = child.run(Upper, grace=float(grace), allow_background=background == "yes", on_end=lambda: None)
print(outcome.ended, file=open(os.environ["ENDED_FILE"], "w"))
sys.exit(outcome.status)
"""
