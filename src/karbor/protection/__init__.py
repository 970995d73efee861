"""The protection service: protect, restore, verify, copy, delete; the inventory; the worker."""
