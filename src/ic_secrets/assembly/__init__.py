"""Puts settings, store, audit log and plugins together into one request and one build.

The command line and the Python API both stand on it. It does not use argparse and
prints nothing: notices go to a callback.

- `context`: what one command works with
- `stores`: the store that the settings name, checked and perhaps cached
- `request`: what a build is to be
- `exposed`: the values that a build of a target would see
"""
