"""Say what a run would do, and what would fail."""
