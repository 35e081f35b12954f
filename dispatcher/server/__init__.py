"""The HTTP server of the API: uvicorn within bounds of bytes, time and connections, for whoever can reach its port."""
