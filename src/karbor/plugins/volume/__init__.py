"""Volumes of Cinder: by backup, by snapshot, or by an image into the vault."""
