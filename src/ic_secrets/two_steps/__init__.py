"""The same build in two steps, `pre-build` and `post-build`, with a guard in between.

- `steps`: what each of the two does
- `handover`: what the first leaves for the second
- `guard`: the process that scrubs when the second does not come
- `locks`: one build at a time in a checkout
- `pipelines`: how a shell, a program or GitHub is given the environment
- `shells`, `github`: the environment as each of them reads it
"""
