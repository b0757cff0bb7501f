"""HTTP/1.1 for a gateway: a lean server and client on asyncio protocols; knows no models."""
