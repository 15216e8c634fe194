"""What operators set and the proxy reads: accounts, keys, channels, models, prices. The database is the truth; workers
read a snapshot of it, renewed when a change is announced."""
