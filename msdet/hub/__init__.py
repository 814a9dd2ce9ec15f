"""Models as packages: measured scores and the model card."""
