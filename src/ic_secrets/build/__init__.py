"""One build, from the store to the receipt."""
