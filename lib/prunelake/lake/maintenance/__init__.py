"""Keep a lake in order: verify, repair, compact, retire."""
