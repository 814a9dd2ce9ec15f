"""Using a model, or a method without one, on recordings."""
