"""What secrets are, and which of them a build gets: the rules of the product, without a clock, a file or a process.

- `secret`: secrets, values, owners, sites and targets
- `names`: the grammar of names
- `resolve`: which value wins, and why
- `environments`: the same for every environment of a site
- `variables`: the environment variables of a build
"""
