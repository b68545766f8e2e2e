"""The ledger: which clips, with which weights and licences, shaped an output, and what may be done with it."""
