"""Survey all sites, and show that as a page."""
