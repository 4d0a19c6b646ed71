"""Keep secrets in one SQLite file in which every value is sealed and every row accounted for."""
