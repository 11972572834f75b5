"""Pictures, videos and sounds: loaded by a policy, and shown to models."""
