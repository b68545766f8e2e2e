"""What the original does, to compare with: its blends, its choice of rows, its inputs of the models."""
