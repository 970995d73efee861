"""A project's networks: networks, subnets, routers, security groups, ports that nothing uses, and floating IPs."""
