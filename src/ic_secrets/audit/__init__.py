"""Keep a log of who did what with which secrets."""
