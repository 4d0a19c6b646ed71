"""Keep secrets at rest: the protocol of every store, and the stores behind it."""
