"""Questions put to small models by measuring: each module is one question, one figure, one table."""
