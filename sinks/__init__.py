"""Delivery: a process of its own that brings alerts to people. It knows the alert contract and nothing else of the
house.
"""
