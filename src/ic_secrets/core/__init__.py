"""Provide what everything else is built on.

- `console`, `notices`: what a person sees
- `collector`: errors that are shown together
- `durations`, `moments`: times as text
- `files`, `new_files`: private files, and trees that are removed
- `linux`: system calls that Python lacks
- `signals`: taking something back before a signal ends us
- `shares`: work in several processes
- `yaml_graph`, `toml_text`: untrusted YAML and TOML
"""
