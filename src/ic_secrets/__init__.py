"""Runs a Composer build with its secrets, and leaves none of them behind."""

__version__ = "0.1.0"
