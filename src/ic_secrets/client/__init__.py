"""Ask a server over HTTP."""
