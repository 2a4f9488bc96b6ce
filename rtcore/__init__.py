"""Real-time voice agents on the telephone: a call is a nursery."""
