"""What everything stands on: notices, bounded and private files, shares of work, the system calls that Python lacks."""
