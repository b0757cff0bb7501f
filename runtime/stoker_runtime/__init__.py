"""The runtime: an OpenAI-compatible engine on torch."""
