"""This host's own resources: applications that an administrator declared, their directories, images and databases."""
