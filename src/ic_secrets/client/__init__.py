"""The one HTTP client for every server that we ask, on urllib3.

- `addresses`: where a server is, and that only this machine is asked without TLS
- `http`: kept connections, retries, several requests side by side, one budget of time for all tries
- `connection`: one connection; each exchange on it has a time limit and a largest size
- `errors`: what can fail, without any value
"""
