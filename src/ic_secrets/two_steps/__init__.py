"""The same build in two steps, `pre-build` and `post-build`, with a guard in between."""
