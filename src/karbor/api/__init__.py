"""API SERVICE: one route table, thin handlers by resource, authentication, policy, faults and OpenAPI."""
