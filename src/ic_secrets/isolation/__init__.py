"""Keeps a build away from everything of the machine but what it needs."""
