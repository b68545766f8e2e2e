"""The commands of ``cm3p``, by subject. Nothing slow is imported before one runs."""
