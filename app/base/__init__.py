"""What every room stands on: money, errors, ids, clock, crypto, database, Redis. Imports libraries, never `app.*`
outside this folder."""
