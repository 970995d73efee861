"""Servers of Nova: what they are made of, and the disk of those that boot from an image."""
