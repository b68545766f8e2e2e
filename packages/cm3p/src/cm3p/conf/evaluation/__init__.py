"""The configuration of `cm3p evaluate`; in a folder of its own, because beside it `model` is a choice of sizes."""
