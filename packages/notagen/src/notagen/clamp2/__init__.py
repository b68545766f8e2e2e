"""CLaMP 2 (arXiv 2410.13267): music and text in one space; and M3, its encoder of scores as patches of text."""
