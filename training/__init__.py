"""Tickets and ratings in, adapter out; the cycle, the clock, the worker."""
