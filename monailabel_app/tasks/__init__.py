"""What a request is answered by."""
