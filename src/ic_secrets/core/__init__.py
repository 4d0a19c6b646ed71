"""Provide what everything else is built on.

- `console`, `notices`: what a person sees
- `collector`: errors that are shown together
- `durations`, `moments`: times as text
- `faces`: what a folder exports
- `files`, `new_files`: private files, and trees that are removed
- `linux`: system calls that Python lacks
- `signals`: taking something back before a signal ends us
- `shares`: work in several processes
- `json_text`, `yaml_graph`, `toml_text`: untrusted JSON, YAML and TOML
"""

from typing import TYPE_CHECKING

from .faces import make_face

if TYPE_CHECKING:
    from .durations import parse_duration as parse_duration
    from .files import read_regular as read_regular, replace_file as replace_file
    from .notices import Notice as Notice, Notify as Notify
else:
    __getattr__ = make_face(
        __name__, durations="parse_duration", files="read_regular replace_file", notices="Notice Notify"
    )
