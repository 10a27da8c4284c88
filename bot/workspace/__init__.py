"""A local Slack on loopback: the demo's stage and the tests' counterpart. Knows nothing of the bot."""
