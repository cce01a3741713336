"""The addresses of the API; no SQL here."""
