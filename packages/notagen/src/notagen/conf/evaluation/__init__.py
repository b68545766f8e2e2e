"""The configuration of `notagen evaluate`; in a folder of its own, because beside it `model` is a choice of sizes."""
