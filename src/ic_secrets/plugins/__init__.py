"""Load the plugins that a person names, and call their hooks without letting their faults become ours.

- `discovery`: where plugins come from: entry points and files
- `manager`: the loaded plugins, their checks and their hooks
- `faults`: what a plugin raises or prints
- `store`: a plugin's store
- `supervisor`: a plugin that ends the process
"""
