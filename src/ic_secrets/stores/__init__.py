"""Keep secrets at rest: the protocol of every store, and the stores behind it.

base          the whole protocol: `Store`, `ReadOnlyStore`, `Place`, `Write`
registry      one record for each scheme of a URL
embedded/     one SQLite file
sealed_file   a text file for a repository, only read
openbao/      an OpenBao server
pantheon/     Pantheon's secrets.json and its API
cache         a server's store that goes on for a while without it; cache_files keeps its files
rollback      whether a store is the newest of its copies
names         the names that a store shows without its key
"""
