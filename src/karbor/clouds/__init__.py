"""Sessions to OpenStack clouds, and the right to act for a user later."""
