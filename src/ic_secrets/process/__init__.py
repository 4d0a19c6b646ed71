"""Run the build's processes, with their streams, terminal and signals, and own the private directory meanwhile.

- `child`: the build's processes, from their start to the end of the last one
- `signals`: the signals that are caught while secrets are exposed
- `streams`: output, through a filter
- `terminal`: a pseudo-terminal in place of the real one
- `directory`: the private directory
- `neighbours`: the builds that run at the same time
- `watchdog`: the process that cleans up when we are killed
"""
