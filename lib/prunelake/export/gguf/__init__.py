"""Exports as GGUF files for llama.cpp."""
