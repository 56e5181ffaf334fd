"""What stands behind a publisher: the gate that its messages pass, and what they are made of."""
