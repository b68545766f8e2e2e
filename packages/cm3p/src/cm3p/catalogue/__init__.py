"""What is known about maps beyond their files: tables of data sets, and the database of the game's client."""
