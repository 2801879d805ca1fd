"""The web server: routes, limits, uploads, and how it is started."""
