"""What a process owes besides its work: interrupts, limits of time, standard streams, and what killed ones left."""
