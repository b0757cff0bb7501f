"""The API process: OpenAI routes, streaming, metrics, lifecycle."""
