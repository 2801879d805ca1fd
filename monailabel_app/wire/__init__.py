"""The wire: what clients send and get."""
