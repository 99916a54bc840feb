"""What the program says, in Korean: one catalogue, looked up by the English sentence where it is printed."""
