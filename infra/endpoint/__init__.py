"""Serving a bundle: the part of infra that may import `tasks.model`'s loader."""
