"""How diverse generated networks are: entropy estimators."""
