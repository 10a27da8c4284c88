"""The demo: an invented company's tickets, and the stage on which all four processes play."""
