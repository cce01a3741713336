"""Prefect flows that compose the stages of prunelake."""
