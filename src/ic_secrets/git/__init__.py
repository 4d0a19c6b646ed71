"""Hand git its logins without arguments, mend what clones have kept, and read what is checked out."""
