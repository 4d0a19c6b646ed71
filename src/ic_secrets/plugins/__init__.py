"""Load the plugins that a person names, call their hooks, and contain their faults."""
