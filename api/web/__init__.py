"""What every route shares: operations, problems, requests, keys, the specification."""
