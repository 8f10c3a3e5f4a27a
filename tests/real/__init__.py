"""A real Apache Kafka and a real Redis server on this machine, without Docker or root, for the tests marked `kafka`."""
