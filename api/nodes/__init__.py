"""Several nodes on one store: who is up, who holds which call, and how they reach one another."""
