"""The `karbor` and `karbor-manage` commands."""
