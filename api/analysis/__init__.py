"""What a model makes of a call once it is over: a summary, data, scores with their evidence."""
