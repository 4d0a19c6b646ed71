"""Find master keys, lock them by a passphrase, and seal values with them.

sealing       master keys and data keys, and the seals that they make
passphrase    a master key locked by a passphrase
master        keys in files, and their format
sources       files, variables, commands and the keyring that keys come from
"""
