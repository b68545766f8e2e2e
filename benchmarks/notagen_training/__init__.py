"""What training costs, beside the original's way."""
