"""Keep secrets in one SQLite file in which every value is sealed and every row accounted for.

database      the file: its tables, transactions and errors
rows          one value as a row, what its seal is bound to, its digest
manifest      what makes a removed or replayed row be noticed
session       one transaction: what was read, verified, and what is changed
definitions   the rules of the model for one write
store         `LocalStore`, and how one is made and opened
salvage       what SQLite still reads of a damaged store, verified
repair        checks a whole store, and saves a damaged one
"""
