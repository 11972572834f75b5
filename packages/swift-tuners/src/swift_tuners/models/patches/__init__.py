"""The patches, one file each; see `swift_tuners.models.patch`."""
