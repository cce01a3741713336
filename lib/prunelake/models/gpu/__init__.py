"""Devices: their names, locks and memory, and where the weights of a model lie."""
