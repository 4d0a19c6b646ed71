"""Run a build: its processes, streams and terminal, its private directory, and the watchdog over both."""
