"""What operators are told without asking: an outbox in the database, and the courier that takes it to their webhooks,
signed, until it is received. Refuses to know what any alert is about."""
