"""Questions put to small models: each module is one question, one figure and one table."""
