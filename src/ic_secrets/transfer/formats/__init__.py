"""Read and write files that people have already.

- `registry`: the table of formats
- `base`: what a format is, and what they share
- `auth`, `definitions`, `dotenv`, `pantheon`: formats in plain text
- `sealed`: the format in ciphertext
"""
