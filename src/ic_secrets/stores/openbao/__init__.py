"""The store of many machines: a KV version 2 engine of an OpenBao server.

- `client`: how the server is asked, and which of its nodes may answer
- `layout`: which path holds what, and in which form
- `login`: where the token comes from
- `policy`: what a token needs, in HCL
- `reading`: what owners hold, in few waves of requests
- `store`: the store itself
- `transaction`: writes that are done together or taken back
"""
