"""Keeps a log of who did what with which secrets.

- `log`: the file, a chain of lines
- `origin`: who runs a command, where, and in which job
- `recording`: the entries that a command leaves in it
"""
