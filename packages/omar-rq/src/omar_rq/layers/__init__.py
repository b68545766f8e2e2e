"""What the layers of a model are good for: the factor matrix of rendered clips, and the tasks of saved probes."""
