"""The gateway: holds requests while models wake, routes and streams them."""
