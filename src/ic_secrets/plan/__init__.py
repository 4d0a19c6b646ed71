"""Say what a run would do, and what would fail.

- `dry_run`: the steps of a run, up to its exposure
- `facts`: what checks are asked about
- `variables`: what installers of packages find besides credentials
- `checks`: the registry of checks, which are in `credentials`, `project` and `secrets`; a `problem` is their result
- `online`: repositories asked whether they accept their credential
- `plan`: the plan itself
"""
