"""HTTP itself: connections, heads and bodies, what an answer looks like, and whether it was got."""
