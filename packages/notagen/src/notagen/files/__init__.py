"""Files of scores: reading, writing, converting, engraving and checking them, and a page that shows them."""
