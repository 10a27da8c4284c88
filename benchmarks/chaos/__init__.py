"""The bot, killed and disturbed while people use it; what must hold afterwards is in invariants.py."""
