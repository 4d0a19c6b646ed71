"""Use Pantheon's own formats as stores: a secrets.json file, and the platform's API."""
