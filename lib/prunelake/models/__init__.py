"""Models: find the weights, load them, map the decoder, remove parts of it."""
