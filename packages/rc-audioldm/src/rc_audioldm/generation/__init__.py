"""Generation with a style: requests, modes, the style of each request, runs in folders."""
