"""Doubtful objects of maps: what a masked language model finds improbable, beside a rule about the timing grid."""
