"""Contract suites: what an implementation of a port of the SDK must pass, for any test runner."""
