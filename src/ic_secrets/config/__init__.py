"""Settings: what can be set, where, and what each place says."""
