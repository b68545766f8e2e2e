"""What strangers wrote: configurations with types and ranges, and files that are read in bounds."""
