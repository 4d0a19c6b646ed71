"""Master keys: where they come from, how a passphrase locks one, and the seals that they make."""
