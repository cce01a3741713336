"""PruneLake: what removing attention layers does to accuracy, confidence and explanations."""
