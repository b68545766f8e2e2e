"""Objects of the four rulesets, from the slots that all of them share."""
