"""The HTTP server of the API: uvicorn within bounds of bytes, time and connections, since anybody may call it."""
