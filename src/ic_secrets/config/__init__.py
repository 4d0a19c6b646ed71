"""Finds every setting of a command, and says where it came from.

- `catalogue`: every setting, what it takes, and who may set it
- `files`: the project's ic-secrets.toml and the person's config.toml
- `projects`: the site that Lando or DDEV name
- `branches`: the environment of a git branch
- `settings`: all of these together, in their order
"""
