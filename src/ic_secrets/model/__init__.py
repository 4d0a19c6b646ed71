"""Secrets, their owners and targets, and which value wins: the rules, free of clocks, files and environments."""
