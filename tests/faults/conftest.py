"""The real servers of the services tier, for the tests that wound the wire to them."""

from tests.services.conftest import postgres, postgres_url, s3_server

__all__ = ["postgres", "postgres_url", "s3_server"]
