"""A broker and a Redis brought along, on loopback, that end with us."""
