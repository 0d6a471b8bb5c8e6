"""What a statement is, whose it is and where it goes: pure decisions over snapshots."""
