"""The Slack app: Slack in, ledger, models over HTTP, Slack out. No torch."""
