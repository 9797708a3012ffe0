"""What a hospital costs: processor, memory and disk of each stage at several sizes."""
