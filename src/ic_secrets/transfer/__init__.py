"""Move definitions of secrets between stores and files."""
