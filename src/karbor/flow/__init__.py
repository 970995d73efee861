"""The durable graph engine: runs and steps are rows, recovery is claiming again."""
