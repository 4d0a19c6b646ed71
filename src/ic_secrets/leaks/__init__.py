"""Search what a build wrote for values: walk its places, look into archives, report findings."""
