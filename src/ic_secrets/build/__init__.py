"""One build, from the store to the receipt.

- `prepare`: load, select, resolve, check and render, before anything is exposed
- `secrets`: the record of each secret, and the list of them that answers every check
- `render`: files and variables, pure
- `expose`: the private directory and the environment, until the scrub
- `run`: the steps in their order
- `places`: where a build may have written to
- `verify`: what the build left behind
- `receipt`: what was exposed, and the proof that it is gone
"""
