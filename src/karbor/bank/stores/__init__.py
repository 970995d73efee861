"""Adapters: one module for each technology that can hold a bank."""
