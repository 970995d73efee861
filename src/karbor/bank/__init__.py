"""What lies in a bank: the wrappers around a store, and the vault that gives its objects a meaning."""
