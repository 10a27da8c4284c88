"""The embedded model server: one copy of the weights, base and adapters, the OpenAI protocol. Knows no Slack."""
