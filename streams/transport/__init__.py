"""Kafka: who reads what, from where, without a hole. Topics and their checks."""
