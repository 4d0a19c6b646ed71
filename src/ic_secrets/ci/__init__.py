"""What we know of CI platforms: one record each, which all commands ask.

- `platforms`: the records, and what is found by them: the platform, the job's URL, the branch
- `identity`: the identity token of the job that runs
"""
