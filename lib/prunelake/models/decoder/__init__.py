"""The structure of a decoder: its blocks and parts, and how to run it without some of them."""
