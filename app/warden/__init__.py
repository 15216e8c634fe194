"""Who looks after the channels: records what traffic finds out about them, and, in one worker of the house at a time,
tests them, lets parked credentials return, ends drains, asks vendors for balances and takes alerts to webhooks."""
