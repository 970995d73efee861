"""Protection and protectable plugins that come with the service, by resource."""
