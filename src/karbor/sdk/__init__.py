"""What a vendor imports: the ports a plugin implements and the contract suites that prove it."""
