"""What decodes: one file each, and their registry."""
