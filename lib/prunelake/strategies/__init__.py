"""Removal orders: which layers a sweep removes first."""
