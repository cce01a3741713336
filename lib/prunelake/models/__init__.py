"""Models: find and load the weights, map the decoder, remove modules from it."""
