"""What Composer makes of a project and of credentials: auth.json, which credential wins, repositories, its home."""
