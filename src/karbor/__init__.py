"""Karbor: data protection as a service for OpenStack clouds and the hosts around them."""

__version__ = "2.0.0.dev1"
