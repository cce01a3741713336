"""Write a checkpoint without the parts that a level removes."""
