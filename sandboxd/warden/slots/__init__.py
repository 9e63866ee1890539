"""The slots and what a leased slot has: scratch, folders, directories."""
